use proptest::prelude::*;

use super::*;

fn level(tokens: u64, used: u64, held: u64) -> Level {
    Level {
        subject: BudgetSubject::ORG,
        limit: BudgetLimit { tokens_per_day: Some(tokens), usd_per_day: None },
        now: BudgetUse { used_tokens: used, held_tokens: held, ..BudgetUse::default() },
    }
}

fn money(limit: i64, used: i64, held: i64) -> Level {
    Level {
        subject: BudgetSubject::ORG,
        limit: BudgetLimit { tokens_per_day: None, usd_per_day: Some(Usd::from_nanos(limit)) },
        now: BudgetUse {
            used: Usd::from_nanos(used),
            held: Usd::from_nanos(held),
            ..BudgetUse::default()
        },
    }
}

#[test]
fn a_call_gets_what_is_left_waits_for_what_others_hold_and_is_refused_at_the_end() {
    let fits = |level| output_that_fits(&[level], 100, 1_000, 64);
    assert_eq!(fits(level(10_000, 0, 0)), Ok(1_000));
    assert_eq!(fits(level(1_100, 0, 0)), Ok(1_000));
    assert_eq!(fits(level(1_099, 0, 0)), Ok(999), "the last answer is shorter");
    assert_eq!(fits(level(10_000, 9_000, 0)), Ok(900));
    assert_eq!(fits(level(10_000, 0, 9_000)), Err(Unfit::HeldByOthers));
    assert_eq!(fits(level(10_000, 9_500, 400)), Err(Unfit::HeldByOthers));
    let refused = fits(level(10_000, 9_900, 0)).unwrap_err();
    let Unfit::Exhausted(refused) = refused else { panic!("{refused:?}") };
    assert_eq!((refused.what, refused.used.as_str()), ("tokens_per_day", "9900"));
    assert!(refused.detail(Day::from_number(0)).contains("budget set org --tokens-per-day"));
}

#[test]
fn money_is_judged_with_what_others_hold() {
    let fits = |level| money_fits(&[level], Usd::from_nanos(10));
    assert_eq!(fits(money(100, 80, 10)), Ok(()));
    assert_eq!(fits(money(100, 80, 11)), Err(Unfit::HeldByOthers));
    assert!(matches!(fits(money(100, 91, 0)), Err(Unfit::Exhausted(_))));
    assert!(matches!(fits(money(0, 0, 0)), Err(Unfit::Exhausted(_))), "nothing means nothing");
}

#[test]
fn the_end_is_near_from_four_fifths_on() {
    let near = |level: Level| is_near(level.limit, level.now);
    assert!(!near(level(1_000, 799, 900)) && near(level(1_000, 800, 0)));
    assert!(!near(money(1_000, 799, 0)) && near(money(1_000, 800, 0)));
    assert!(!is_near(BudgetLimit::NONE, BudgetUse { used_tokens: 9, ..BudgetUse::default() }));
}

#[test]
fn what_was_set_stands_before_the_configuration_and_a_token_has_its_own_or_the_common_one() {
    let limit = |tokens| BudgetLimit { tokens_per_day: Some(tokens), usd_per_day: None };
    let me = PrincipalId::from(uuid::Uuid::from_u128(1));
    let config = BudgetConfig {
        principals: BTreeMap::from([(me, limit(1))]),
        each_principal: limit(2),
        ..BudgetConfig::default()
    };
    let of = |id: u128| {
        BudgetSubject::of(BudgetScope::Principal, PrincipalId::from(uuid::Uuid::from_u128(id)))
    };
    let budgets = Budgets::new(config, Vec::new());
    assert_eq!((budgets.limit(&of(1)), budgets.limit(&of(2))), (limit(1), limit(2)));
    assert_eq!(budgets.limit(&BudgetSubject::ORG), BudgetLimit::NONE);
    let row = BudgetRow {
        subject: of(1),
        limit: BudgetLimit::NONE,
        updated_at: crate::domain::Timestamp::from_micros(0),
        updated_by: me,
    };
    budgets.replace(1, vec![row]);
    assert_eq!(budgets.limit(&of(1)), BudgetLimit::NONE, "set to no bound");
}

#[test]
fn an_older_reading_never_replaces_a_newer_one() {
    let row = |tokens| BudgetRow {
        subject: BudgetSubject::ORG,
        limit: BudgetLimit { tokens_per_day: Some(tokens), usd_per_day: None },
        updated_at: crate::domain::Timestamp::from_micros(0),
        updated_by: PrincipalId::from(uuid::Uuid::from_u128(1)),
    };
    let budgets = Budgets::new(BudgetConfig::default(), vec![row(9)]);
    budgets.replace(2, vec![row(2)]);
    budgets.replace(1, vec![row(1)]);
    assert_eq!(budgets.limit(&BudgetSubject::ORG).tokens_per_day, Some(2));
    budgets.replace(3, Vec::new());
    assert_eq!(budgets.limit(&BudgetSubject::ORG), BudgetLimit::NONE);
}

proptest! {
    /// However calls begin and end, what is used and held never passes the limit.
    #[test]
    fn no_order_of_calls_overspends(
        limit in 200_u64..5_000,
        steps in proptest::collection::vec((any::<bool>(), 1_u64..200, 1_u64..2_000, 0_u64..100), 1..200),
    ) {
        let mut level = level(limit, 0, 0);
        let mut under_way: Vec<u64> = Vec::new();
        for (begins, input, wanted, share) in steps {
            if begins {
                if let Ok(output) = output_that_fits(std::slice::from_ref(&level), input, wanted, 64) {
                    prop_assert!(output <= wanted);
                    level.now.held_tokens += input + output;
                    under_way.push(input + output);
                }
            } else if let Some(held) = under_way.pop() {
                level.now.held_tokens -= held;
                level.now.used_tokens += held * share / 100;
            }
            prop_assert!(level.now.used_tokens + level.now.held_tokens <= limit);
        }
    }
}
