//! Transcripts of the command line: what an operator types and sees, word for word.
//!
//! `TRYCMD=overwrite cargo test --test cli` writes them anew; a change of wording then shows up in review.

#[test]
fn transcripts() {
    trycmd::TestCases::new()
        .env("COLUMNS", "100")
        .env("LC_ALL", "C.UTF-8")
        .env("NO_COLOR", "1")
        .env("PGSTEAD_INVENTORY", "")
        .case("tests/cli/*.trycmd");
}
