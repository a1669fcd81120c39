use super::*;

use proptest::prelude::*;

/// Small lists, so that they often overlap.
fn lists() -> impl Strategy<Value = Scopes> {
    let tools = proptest::sample::subsequence(ToolName::ALL.to_vec(), 0..=ToolName::ALL.len());
    let agents = proptest::sample::subsequence(vec!["a", "b", "c"], 0..=3);
    let surfaces = proptest::sample::subsequence(Surface::ALL.to_vec(), 0..=Surface::ALL.len());
    let option = proptest::option::of::<proptest::strategy::BoxedStrategy<Vec<&str>>>;
    (option(agents.boxed()), proptest::option::of(tools), proptest::option::of(surfaces)).prop_map(
        |(agents, tools, surfaces)| Scopes {
            agents: agents.map(|a| a.into_iter().map(|n| n.parse().unwrap()).collect()),
            tools: tools.map(|t| t.into_iter().collect()),
            surfaces: surfaces.map(|s| s.into_iter().collect()),
            conversations: None,
        },
    )
}

proptest! {
    #[test]
    fn what_two_allow_together_is_what_each_allows(one in lists(), two in lists()) {
        let both = one.narrowed_by(&two);
        for tool in ToolName::ALL {
            prop_assert_eq!(both.allows_tool(*tool), one.allows_tool(*tool) && two.allows_tool(*tool));
        }
        for agent in ["a", "b", "c", "d"] {
            let each = one.allows_agent(agent) && two.allows_agent(agent);
            prop_assert_eq!(both.allows_agent(agent), each);
        }
        for surface in Surface::ALL {
            let each = one.allows_surface(surface) && two.allows_surface(surface);
            prop_assert_eq!(both.allows_surface(surface), each);
        }
        prop_assert!(both.is_within(&one) && both.is_within(&two));
        prop_assert_eq!(two.narrowed_by(&one), both);
    }

    #[test]
    fn within_means_that_nothing_more_is_allowed(one in lists(), two in lists()) {
        let escapes = ToolName::ALL.iter().any(|t| one.allows_tool(*t) && !two.allows_tool(*t))
            || ["a", "b", "c", "d"].iter().any(|a| one.allows_agent(a) && !two.allows_agent(a));
        prop_assert!(!one.is_within(&two) || !escapes);
    }

    #[test]
    fn scopes_survive_the_wire(scopes in lists()) {
        let text = serde_json::to_string(&scopes).unwrap();
        prop_assert_eq!(serde_json::from_str::<Scopes>(&text).unwrap(), scopes);
    }
}

#[test]
fn an_absent_list_narrows_nothing_and_an_empty_one_leaves_nothing() {
    let wide: Scopes = serde_json::from_str("{}").unwrap();
    assert!(wide.is_wide() && wide.allows_agent("a") && wide.allows_conversation(None));
    let none: Scopes =
        serde_json::from_str(r#"{"agents":[],"tools":[],"surfaces":[],"conversations":[]}"#)
            .unwrap();
    assert!(!none.allows_agent("a") && !none.allows_tool(ToolName::ReadFile));
    assert!(!none.allows_surface(Surface::Api) && !none.allows_conversation(None));
    assert!(serde_json::from_str::<Scopes>(r#"{"agent":["a"]}"#).is_err(), "a misspelt list");
    assert!(serde_json::from_str::<Scopes>(r#"{"tools":["rm"]}"#).is_err(), "no such tool");
}

#[test]
fn a_list_of_conversations_includes_no_new_one() {
    let id: ConversationId = "conv_01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
    let scopes = Scopes { conversations: Some([id].into()), ..Scopes::default() };
    assert!(scopes.allows_conversation(Some(id)) && !scopes.allows_conversation(None));
}
