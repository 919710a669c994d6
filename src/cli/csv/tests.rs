use super::*;

fn read(text: impl AsRef<[u8]>) -> Result<Vec<Row>, Error> {
    Leads::new("leads.csv".into(), text.as_ref(), &[])?.collect()
}

fn error(text: impl AsRef<[u8]>) -> String {
    read(text).map(|_| ()).unwrap_err().to_string()
}

fn attribute<'a>(row: &'a Row, name: &str) -> Option<&'a str> {
    match row.facts.attributes.as_ref()?.fields.get(name)?.kind.as_ref()? {
        Kind::StringValue(text) => Some(text),
        _ => None,
    }
}

#[test]
fn mark_crlf_quotes_and_blank_lines() {
    let unix = "\u{feff}Phone,name,Plan\n+14155550100,\"Doe, \"\"Jo\"\"\",gold\n\n\n+14155550101,\"two\nlines\",\n\n\
                +14155550102,x,\"y\"";
    for text in
        [unix.to_owned(), unix.replace('\n', "\r\n"), format!("{unix}\n"), format!("{unix}\n\n")]
    {
        let rows = read(&text).unwrap();
        assert_eq!(rows.iter().map(|row| row.line).collect::<Vec<_>>(), [2, 5, 8], "{text:?}");
        assert_eq!(rows[0].facts.phone, "+14155550100");
        assert_eq!(rows[0].facts.name, "Doe, \"Jo\"");
        assert_eq!(attribute(&rows[0], "Plan"), Some("gold"));
        assert!(rows[1].facts.attributes.is_none());
        assert_eq!((rows[2].facts.name.as_str(), attribute(&rows[2], "Plan")), ("x", Some("y")));
    }
}

#[test]
fn a_single_column_is_enough() {
    let rows = read("phone\r\n+14155550100\r\n\r\n+14155550101\r\n").unwrap();
    assert_eq!(rows.iter().map(|row| row.line).collect::<Vec<_>>(), [2, 4]);
}

#[test]
fn lines_are_right_beyond_one_buffer() {
    let mut text = String::from("phone,name\n");
    for line in 2..9_000 {
        text.push_str(&format!("+14155550100,{line}\n"));
    }
    for row in read(&text).unwrap() {
        assert_eq!(row.facts.name, row.line.to_string());
    }
}

#[test]
fn known_columns_in_any_order() {
    let rows = read("region,time_zone,phone,a\nUS,America/New_York,(212) 555-0100,1\n").unwrap();
    let facts = &rows[0].facts;
    assert_eq!(
        (facts.default_region.as_str(), facts.time_zone.as_str()),
        ("US", "America/New_York")
    );
    assert_eq!(facts.phone, "(212) 555-0100");
    assert_eq!(attribute(&rows[0], "a"), Some("1"));
}

#[test]
fn errors_name_the_line_and_not_the_data() {
    assert!(error("").contains("line 1: has no column \"phone\""));
    assert!(error("name\nx\n").contains("has no column \"phone\""));
    assert!(error("phone,,x\n").contains("column 2 has no name"));
    assert!(error("phone,a,A\n").contains("column 3 has a name that was there before"));
    let wide = error("phone,name\n+1,a\n+14155550100,a,b\n");
    assert_eq!(wide, "leads.csv line 3: has 3 fields where the header has 2");
    assert!(error("phone,name\n+1\n").contains("line 2: has 1 fields"));
    assert_eq!(error(b"phone,name\n+1,a\n+2,\xff\n"), "leads.csv line 3: column 2 is not UTF-8");
    let long = format!("phone,name\n+1,{}\n", "x".repeat(FIELD_MAX_BYTES + 1));
    assert!(error(long).contains("line 2: column 2 is longer than 8192 bytes"));
    assert!(
        error("x,".repeat(COLUMNS_MAX) + "phone\n").contains("line 1: has more than 256 columns")
    );
}

#[test]
fn a_quote_that_is_never_closed_is_found_early() {
    struct Endless<'a> {
        start: &'a [u8],
        given: usize,
    }
    impl Read for Endless<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.given += buffer.len();
            assert!(self.given < 10 * RECORD_MAX_BYTES, "read without bound");
            if self.start.is_empty() {
                buffer.fill(b'x');
                return Ok(buffer.len());
            }
            self.start.read(buffer)
        }
    }
    let inner = Endless { start: b"phone,name\n+1,a\n+2,\"", given: 0 };
    let error = Leads::new("leads.csv".into(), inner, &[]).unwrap().find_map(Result::err).unwrap();
    assert!(error.to_string().starts_with("leads.csv line 3: is longer than"), "{error}");
}

#[test]
fn ends_after_an_error() {
    let mut leads = Leads::new("f".into(), "phone\n1,2\n3\n".as_bytes(), &[]).unwrap();
    assert!(leads.next().unwrap().is_err());
    assert!(leads.next().is_none());
}

#[test]
fn the_example_is_sound() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/leads.csv");
    let rows: Vec<Row> = Leads::open(&path, &[]).unwrap().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 500);
    let phones: BTreeSet<_> = rows
        .iter()
        .map(|row| row.facts.phone.parse::<crate::domain::Phone>().unwrap().expose().to_owned())
        .collect();
    assert_eq!(phones.len(), 500);
    for row in &rows {
        assert!(!row.facts.phone.starts_with("+1500555"));
        crate::domain::window::zone(&row.facts.time_zone).unwrap();
        assert!(attribute(row, "appointment").is_some());
    }
    let offsets = BTreeSet::from([0, 499]);
    assert_eq!(lines_at(&path, &[], &offsets).unwrap(), [2, 501]);
    assert_eq!(count(&path, &[]).unwrap(), 500);
}

#[test]
fn a_map_names_columns_otherwise() {
    let maps = |texts: &[&str]| texts.iter().map(|text| mapping(text).unwrap()).collect::<Vec<_>>();
    let read = |text: &str, given: &[&str]| -> Result<Vec<Row>, Error> {
        Leads::new("f".into(), text.as_bytes(), &maps(given))?.collect()
    };
    let text = "Mobile,phone,Labels,x\n+14155550100,home,a|b c |,1\n";
    let rows = read(text, &["phone=mobile", "tags=Labels"]).unwrap();
    assert_eq!(
        (rows[0].facts.phone.as_str(), rows[0].facts.tags.join(",")),
        ("+14155550100", "a,b c".into())
    );
    // The column that is called phone is an attribute like any other then.
    assert_eq!(attribute(&rows[0], "phone"), Some("home"));
    let missing = read(text, &["phone=cell"]).map(|_| ()).unwrap_err().to_string();
    assert_eq!(missing, "f line 1: has no column for phone: --map names one that is not there");
    for bad in ["phone", "phone=", "shoe=x", "=x"] {
        assert!(mapping(bad).is_err(), "{bad}");
    }
}

#[test]
fn half_a_line_and_a_huge_field_are_refused() {
    assert_eq!(
        error("phone,name\n+14155550100,a\n+1415555"),
        "leads.csv line 3: has 1 fields where the header has 2"
    );
    let huge = format!("phone,name\n+14155550100,\"{}\"\n", "x".repeat(10 << 20));
    assert!(error(huge).starts_with("leads.csv line 2: is longer than 65536 bytes"));
}
