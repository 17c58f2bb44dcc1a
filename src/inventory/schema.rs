//! The JSON Schema of the inventory, for editors and for the reader.
//!
//! It is derived from [`super::raw`] and nothing is added here but its title; `docs/inventory.schema.json` is a copy for
//! editors, which a test keeps equal.

/// Returns the JSON Schema of an inventory.
pub fn json_schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(super::raw::Inventory);
    schema.insert("title".to_owned(), "pgstead inventory".into());
    schema.to_value()
}
