//! Turns typed contexts into configuration files and pages, one context and one template per file.
//!
//! Pure. It quotes every value through `quote/` and decides nothing: which value a parameter has is `plan/`'s business.

pub mod drill;
pub mod hba;
pub mod postgresql_conf;

use std::sync::LazyLock;

use serde::Serialize;
use tera::{Context, Tera};

/// Why a template could not be rendered. Templates are part of the program, so this is a defect of pgstead.
#[derive(Debug, thiserror::Error)]
#[error("could not render template \"{template}\"")]
pub struct RenderError {
    pub template: &'static str,
    /// What tera says.
    #[source]
    pub source: tera::Error,
}

static TEMPLATES: LazyLock<Result<Tera, tera::Error>> = LazyLock::new(|| {
    let mut tera = Tera::new();
    tera.add_raw_templates([
        ("postgresql.conf", include_str!("../../templates/postgresql.conf.tera")),
        ("pg_hba.conf", include_str!("../../templates/pg_hba.conf.tera")),
        ("pg_ident.conf", include_str!("../../templates/pg_ident.conf.tera")),
        ("pg_hba.part", include_str!("../../templates/pg_hba.part.tera")),
        ("drill.html", include_str!("../../templates/drill.html.tera")),
        ("pg_ident.part", include_str!("../../templates/pg_ident.part.tera")),
    ])?;
    Ok(tera)
});

fn render(template: &'static str, context: &impl Serialize) -> Result<String, RenderError> {
    let fail = |source| RenderError { template, source };
    let context = Context::from_serialize(context).map_err(fail)?;
    match &*TEMPLATES {
        Ok(tera) => tera.render(template, &context).map_err(fail),
        Err(error) => Err(fail(tera::Error::message(error.to_string()))),
    }
}
