//! The JSON Schema of the inventory, for editors and for the reader.
//!
//! It is derived from [`super::raw`] and nothing is added here; `docs/inventory.schema.json` is a copy for editors.

/// Returns the JSON Schema of an inventory.
pub fn json_schema() -> serde_json::Value {
    schemars::schema_for!(super::raw::Inventory).to_value()
}

#[cfg(test)]
mod tests {
    #[test]
    fn show() {
        println!("{}", serde_json::to_string_pretty(&super::json_schema()).unwrap());
    }
}
