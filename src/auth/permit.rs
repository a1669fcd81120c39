//! Permission as a value: what acts takes a [`Permit`], and only `auth` can make one.

use std::sync::Arc;

use crate::domain::{AgentDef, Approval, ConversationId, PrincipalId, ScopeKind, ToolName};

use super::{
    authorize::{Denied, in_conversation},
    context::{CallContext, Scope},
};

/// Proof that `auth` allowed an action of kind `A` in one request.
#[derive(Clone, Debug)]
pub struct Permit<A> {
    cx: CallContext,
    action: A,
}

impl<A> Permit<A> {
    pub(in crate::auth) fn mint(cx: CallContext, action: A) -> Self {
        Self { cx, action }
    }

    /// Who asked, and in which request.
    pub const fn context(&self) -> &CallContext {
        &self.cx
    }

    /// What was allowed.
    pub const fn action(&self) -> &A {
        &self.action
    }

    /// Whose things this request may know of.
    pub fn scope(&self) -> Scope {
        self.cx.scope()
    }
}

/// Start a run of this agent.
#[derive(Clone, Debug)]
pub struct StartRun {
    /// The agent, as defined when permission was given.
    pub agent: Arc<AgentDef>,
}

impl Permit<StartRun> {
    /// Whether the run may be one of this conversation; of a new one, where none is given.
    ///
    /// # Errors
    /// When scopes name the conversations and this is none of them.
    pub fn in_conversation(&self, id: Option<ConversationId>) -> Result<(), Denied> {
        in_conversation(&self.cx, id)
    }
}

/// Read runs, conversations and approvals within the permit's scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read(pub(in crate::auth) ());

/// What somebody does to a run or a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Stop a run at its next safe point.
    Interrupt,
    /// Say something to a run in progress.
    Steer,
    /// Send a paused run on.
    Resume,
    /// End a run.
    Cancel,
    /// Repeat a failed run.
    Retry,
    /// Branch a run off into a new conversation.
    Fork,
    /// Open a conversation.
    CreateConversation,
    /// Delete a conversation.
    DeleteConversation,
}

impl Verb {
    /// Every verb, for exhaustive tests.
    pub const ALL: [Self; 8] = [
        Self::Interrupt,
        Self::Steer,
        Self::Resume,
        Self::Cancel,
        Self::Retry,
        Self::Fork,
        Self::CreateConversation,
        Self::DeleteConversation,
    ];

    /// As a sentence says it: "you may not …".
    pub const fn phrase(self) -> &'static str {
        match self {
            Self::Interrupt => "interrupt a run",
            Self::Steer => "steer a run",
            Self::Resume => "resume a run",
            Self::Cancel => "cancel a run",
            Self::Retry => "retry a run",
            Self::Fork => "fork a run",
            Self::CreateConversation => "create a conversation",
            Self::DeleteConversation => "delete a conversation",
        }
    }
}

/// Control runs or conversations within the permit's scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Control {
    /// What is done.
    pub verb: Verb,
}

/// Decide approvals; each one still asks for its own role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decide {
    pub(in crate::auth) requester_may_approve: bool,
}

impl Permit<Decide> {
    /// Whether this person may decide this approval of a run that `requester` started.
    ///
    /// # Errors
    /// When it asks for a higher role, or when the requester may not decide their own.
    pub fn check(&self, approval: &Approval, requester: PrincipalId) -> Result<(), Denied> {
        let me = &self.cx.principal;
        if me.role < approval.required_role {
            return Err(Denied::ApprovalRole { role: me.role, required: approval.required_role });
        }
        if let Ok(tool) = approval.tool.parse::<ToolName>()
            && !me.scopes.allows_tool(tool)
        {
            return Err(Denied::Scope { kind: ScopeKind::Tool, wanted: approval.tool.clone() });
        }
        if me.id == requester && !self.action.requester_may_approve {
            return Err(Denied::OwnRequest);
        }
        Ok(())
    }
}
