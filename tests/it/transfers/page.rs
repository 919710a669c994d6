//! The page about transfers shows the states as the code has them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use trunkline::domain::transfer::{EDGES, State};

#[test]
fn the_diagram_matches_the_code() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/transfers.md");
    let text = fs::read_to_string(page).unwrap();
    let diagram = text.split("```mermaid\nstateDiagram-v2\n").nth(1).expect("a diagram of states");
    let diagram = diagram.split("```").next().unwrap();
    let (mut edges, mut endings, mut beginnings) =
        (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for line in diagram.lines().filter(|line| line.contains("-->")) {
        let (from, to) = line.split_once("-->").unwrap();
        let (from, to) = (from.trim(), to.split(':').next().unwrap().trim());
        let state = |word| State::from_word(word).unwrap_or_else(|| panic!("{word} is no state"));
        match (from, to) {
            ("[*]", to) => drop(beginnings.insert(state(to))),
            (from, "[*]") => drop(endings.insert(state(from))),
            (from, to) => assert!(edges.insert((state(from), state(to))), "{line} is there twice"),
        }
    }
    assert_eq!(edges, BTreeSet::from(EDGES));
    assert_eq!(beginnings, BTreeSet::from([State::Requested]));
    let final_states = State::ALL.iter().copied().filter(|state| state.is_ended());
    assert_eq!(endings, final_states.collect());
}
