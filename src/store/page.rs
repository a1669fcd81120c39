//! Keyset pages: a cursor is the last id that was seen, so a page costs the same at any depth.

use serde::Serialize;

use crate::domain::limits;

/// Which page to read. Lists are newest first, since ids sort by time.
#[derive(Clone, Debug)]
pub struct Page {
    limit: u32,
    cursor: Option<String>,
}

/// One page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Paged<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Where the next page begins; none at the end.
    pub next_cursor: Option<String>,
}

impl Default for Page {
    fn default() -> Self {
        Self { limit: limits::PAGE_DEFAULT, cursor: None }
    }
}

impl Page {
    /// `limit` is brought between 1 and [`limits::PAGE_MAX`]; `cursor` is the `next_cursor` of the
    /// page before.
    pub fn new(limit: Option<u32>, cursor: Option<String>) -> Self {
        let limit = limit.unwrap_or(limits::PAGE_DEFAULT).clamp(1, limits::PAGE_MAX);
        Self { limit, cursor }
    }

    /// The page behind `cursor`, as long as this one.
    #[must_use]
    pub fn after(&self, cursor: String) -> Self {
        Self { limit: self.limit, cursor: Some(cursor) }
    }

    /// Where it begins.
    pub fn cursor(&self) -> Option<&str> {
        self.cursor.as_deref()
    }

    /// Only ids before this one. `~` sorts after every id.
    pub(super) fn before(&self) -> String {
        self.cursor.clone().unwrap_or_else(|| "~".to_owned())
    }

    /// Only numbers below this one, where rows are numbered. A cursor that is no number begins at the
    /// newest, like one that sorts after every id.
    pub(super) fn before_number(&self) -> u64 {
        self.cursor.as_deref().and_then(|text| text.parse().ok()).unwrap_or(u64::MAX)
    }

    /// One more than the page, to learn whether there is another.
    pub fn rows(&self) -> i64 {
        i64::from(self.limit) + 1
    }

    /// The page of a list that is in memory, newest first by `key`.
    pub fn of_memory<T>(&self, mut all: Vec<T>, key: impl Fn(&T) -> String) -> Paged<T> {
        all.sort_by_cached_key(|item| std::cmp::Reverse(key(item)));
        let before = self.before();
        all.retain(|item| key(item) < before);
        all.truncate(usize::try_from(self.rows()).unwrap_or(usize::MAX));
        self.cut(all, key)
    }

    /// The page out of up to [`rows`](Self::rows) items; `key` gives the cursor behind an item.
    pub fn cut<T>(&self, mut items: Vec<T>, key: impl Fn(&T) -> String) -> Paged<T> {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let has_more = items.len() > limit;
        items.truncate(limit);
        let next_cursor = if has_more { items.last().map(key) } else { None };
        Paged { items, next_cursor }
    }
}
