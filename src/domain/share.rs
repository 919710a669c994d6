//! How a tenant's runs share its slots: stride scheduling by weight, ties by priority.

/// The stride of a run of weight 1; divided by the weight it gives the cost of one slot.
const STRIDE: i64 = 1 << 20;

/// What one run wants of this round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demand {
    /// 1 to 1,000: a run of weight 2 gets twice the slots of a run of weight 1.
    pub weight: u32,
    /// Bigger goes first among runs that are owed the same.
    pub priority: i32,
    /// What the run has used so far, in strides. Moved on by [`share`].
    pub pass: i64,
    /// How many slots the run could use now.
    pub wanted: usize,
}

/// Gives out `slots`, one at a time, to the run that has used least for its weight. Returns how
/// many each run gets and the tenant's new virtual time; `runs[i].pass` is moved on.
///
/// `virtual_time` is where the tenant stood: a run that was idle joins there and cannot claim the
/// past.
pub fn share(runs: &mut [Demand], slots: usize, virtual_time: i64) -> (Vec<usize>, i64) {
    let mut given = vec![0; runs.len()];
    let mut virtual_time = virtual_time;
    for run in runs.iter_mut() {
        run.pass = run.pass.max(virtual_time);
    }
    for _ in 0..slots {
        let next = (0..runs.len())
            .filter(|&i| given[i] < runs[i].wanted)
            .min_by_key(|&i| (runs[i].pass, -i64::from(runs[i].priority), i));
        let Some(i) = next else { break };
        given[i] += 1;
        virtual_time = runs[i].pass;
        runs[i].pass += STRIDE / i64::from(runs[i].weight.max(1));
    }
    (given, virtual_time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn demand(weight: u32, priority: i32, wanted: usize) -> Demand {
        Demand { weight, priority, pass: 0, wanted }
    }

    #[test]
    fn by_weight_over_many_small_rounds() {
        let mut runs = [demand(3, 0, 1), demand(1, 0, 1)];
        let (mut got, mut vt) = ([0usize; 2], 0);
        for _ in 0..4_000 {
            let (given, next) = share(&mut runs, 1, vt);
            vt = next;
            got[0] += given[0];
            got[1] += given[1];
        }
        assert_eq!(got, [3_000, 1_000]);
    }

    #[test]
    fn priority_breaks_ties_and_newcomers_do_not_catch_up() {
        let mut runs = [demand(1, 0, 9), demand(1, 5, 9)];
        assert_eq!(share(&mut runs, 1, 0).0, [0, 1]);
        let mut old = [demand(1, 0, 1_000)];
        let (_, vt) = share(&mut old, 1_000, 0);
        let mut both = [old[0].clone(), demand(1, 0, 1_000)];
        let (given, _) = share(&mut both, 100, vt);
        assert!(given[0] >= 49, "{given:?}");
    }

    proptest! {
        /// No slot is wasted while somebody wants one, and nobody gets more than wanted.
        #[test]
        fn work_conserving(
            wants in prop::collection::vec((1u32..100, -5i32..5, 0i64..5_000_000, 0usize..20), 0..8),
            slots in 0usize..64,
            vt in 0i64..5_000_000,
        ) {
            let mut runs: Vec<_> = wants
                .iter()
                .map(|&(weight, priority, pass, wanted)| Demand { weight, priority, pass, wanted })
                .collect();
            let (given, after) = share(&mut runs, slots, vt);
            let total: usize = given.iter().sum();
            prop_assert_eq!(total, slots.min(wants.iter().map(|w| w.3).sum()));
            prop_assert!(given.iter().zip(&wants).all(|(g, w)| *g <= w.3));
            prop_assert!(after >= vt);
        }
    }
}
