//! What only one of the two databases has.

mod sqlite;
