//! The topology as a picture: sites with their servers, and the links as a tree from the primary.
//!
//! It draws a [`StatusView`] and looks at nothing itself. Unreachable, unknown and not running are three different words.

use std::collections::BTreeSet;

use crate::check::{LinkReport, Verdict};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::address::Address;
use crate::model::host_key;
use crate::model::lsn::Lsn;
use crate::model::name::{ServerName, SiteName, TopologyName};
use crate::model::quantity::{milliseconds, signed_bytes};
use crate::ui::beside;
use crate::ui::beside::BesideView;
use crate::ui::look::{Look, Style, columns, one_line, pad, shorten};
use crate::ui::report::{verdict_style, verdict_word};

/// How many causes are named.
const CAUSES: usize = 5;

/// What `status` shows.
#[derive(Debug, Clone, PartialEq)]
pub struct StatusView {
    pub topology: TopologyName,
    /// The worst of all verdicts.
    pub verdict: Verdict,
    /// The sites in the order in which they are drawn.
    pub sites: Vec<SiteView>,
    /// The links that should exist.
    pub links: Vec<LinkReport>,
    /// Why it is not healthy: the causes, the worst first.
    pub why: Vec<Diagnostic>,
    /// What stands beside data directories.
    pub beside: Vec<BesideView>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct SiteView {
    pub name: SiteName,
    /// Where it is, in the operator's words.
    pub location: Option<String>,
    pub region: Option<String>,
    pub servers: Vec<ServerView>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ServerView {
    pub name: ServerName,
    pub address: Address,
    /// The port of its instance.
    pub port: u16,
    /// What it is, as observed.
    pub role: RoleView,
    pub timeline: Option<u32>,
    /// Its WAL position: current on a primary, replayed on a standby.
    pub lsn: Option<Lsn>,
    /// Short remarks, such as "pending restart".
    pub notes: Vec<String>,
}

/// What a server is, as observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoleView {
    /// Its instance accepts writes.
    Primary,
    /// Its instance is in recovery.
    Standby,
    /// There is an instance, and it does not run.
    NotRunning,
    /// There is no instance.
    NoInstance,
    /// SSH did not reach it; it may well be running.
    Unreachable(String),
    /// It was reached, and its role could not be seen.
    Unknown(String),
}

impl RoleView {
    fn word(&self) -> String {
        match self {
            RoleView::Primary => "primary".to_owned(),
            RoleView::Standby => "standby".to_owned(),
            RoleView::NotRunning => "not running".to_owned(),
            RoleView::NoInstance => "no instance".to_owned(),
            RoleView::Unreachable(why) if why.starts_with(host_key::CHANGED) => "host key CHANGED".to_owned(),
            RoleView::Unreachable(why) if why.starts_with(host_key::UNKNOWN) => "host key not recorded".to_owned(),
            RoleView::Unreachable(why) => format!("unreachable: {}", one_line(why)),
            RoleView::Unknown(why) => format!("unknown: {}", one_line(why)),
        }
    }

    fn style(&self) -> Style {
        match self {
            RoleView::Primary => Style::Bold,
            RoleView::Standby => Style::Plain,
            RoleView::NotRunning | RoleView::NoInstance => Style::Bad,
            RoleView::Unreachable(_) | RoleView::Unknown(_) => Style::Warn,
        }
    }
}

/// Renders the picture.
pub fn render(view: &StatusView, look: Look) -> String {
    let verdict = look.paint(verdict_style(view.verdict), verdict_word(view.verdict));
    let mut out = format!("{}: {verdict}\n", look.paint(Style::Bold, view.topology.as_str()));
    why(&mut out, view, look);
    out.push('\n');
    let boxes: Vec<(String, Vec<Line>)> = view.sites.iter().map(|site| (heading(site), servers(view, site))).collect();
    // All boxes are as wide as the widest, so that the eye can run down the columns.
    let inner = boxes
        .iter()
        .flat_map(|(heading, lines)| lines.iter().map(|line| columns(&line.text)).chain([columns(heading) + 2]))
        .max()
        .unwrap_or_default()
        .min(look.width.saturating_sub(4));
    for (heading, lines) in &boxes {
        draw_box(&mut out, heading, lines, inner, look);
    }
    out.push('\n');
    links(&mut out, view, look);
    out.push_str(&beside::render(&view.beside, look));
    out
}

/// Says why, in a line for each cause; two servers that accept writes are an alarm.
fn why(out: &mut String, view: &StatusView, look: Look) {
    for cause in view.why.iter().take(CAUSES) {
        let (word, style) = match cause.code {
            Code::TwoPrimaries => ("ALARM", Style::Bad),
            _ => ("why", Style::Plain),
        };
        out.push_str(&format!("  {}: {}\n", look.paint(style, word), one_line(&cause.message)));
        // A server that was not looked at for its key has the same code as one that is out of reach; what to do is another thing.
        let is_of_a_key = |hint: &&str| [host_key::CHANGED_HINT, host_key::UNKNOWN_HINT].contains(hint);
        let is_alarm = cause.code == Code::TwoPrimaries;
        if let Some(hint) = cause.hint.as_deref().filter(|hint| is_alarm || is_of_a_key(hint)) {
            out.push_str(&format!("    {}\n", one_line(hint)));
        }
    }
    if view.why.len() > CAUSES {
        out.push_str(&format!("  and {} more\n", view.why.len() - CAUSES));
    }
    if !view.why.is_empty() {
        out.push_str("  \"pgstead check\" says more, and what to do.\n");
    }
}

/// Text whose part from `from` to `to` (bytes) has a style.
struct Line {
    text: String,
    from: usize,
    to: usize,
    style: Style,
}

fn heading(site: &SiteView) -> String {
    let mut out = site.name.to_string();
    if let Some(location) = &site.location {
        out.push_str(&format!("  {}", one_line(location)));
    }
    if let Some(region) = &site.region {
        out.push_str(&format!(" ({})", one_line(region)));
    }
    out
}

fn servers(view: &StatusView, site: &SiteView) -> Vec<Line> {
    let all = || view.sites.iter().flat_map(|site| &site.servers);
    let name_width = all().map(|server| columns(server.name.as_str())).max().unwrap_or_default();
    let endpoint_width = all().map(|server| columns(&endpoint(server))).max().unwrap_or_default();
    if site.servers.is_empty() {
        return vec![Line { text: "(no server)".to_owned(), from: 0, to: 0, style: Style::Plain }];
    }
    site.servers
        .iter()
        .map(|server| {
            let front =
                format!("{}  {}  ", pad(server.name.as_str(), name_width), pad(&endpoint(server), endpoint_width));
            let role = server.role.word();
            let mut text = format!("{front}{role}");
            if let Some(timeline) = server.timeline {
                text.push_str(&format!("  timeline {timeline}"));
            }
            if let Some(lsn) = server.lsn {
                text.push_str(&format!("  {lsn}"));
            }
            for note in &server.notes {
                text.push_str(&format!("  [{}]", one_line(note)));
            }
            Line { from: front.len(), to: front.len() + role.len(), text, style: server.role.style() }
        })
        .collect()
}

fn endpoint(server: &ServerView) -> String {
    match server.address.ip() {
        Some(std::net::IpAddr::V6(ip)) => format!("[{ip}]:{}", server.port),
        _ => format!("{}:{}", server.address, server.port),
    }
}

fn draw_box(out: &mut String, heading: &str, lines: &[Line], inner: usize, look: Look) {
    let bar = look.or_ascii("─", "-");
    let side = look.or_ascii("│", "|");
    let heading = shorten(heading, inner.saturating_sub(1), look);
    let fill = bar.repeat((inner + 1).saturating_sub(columns(&heading) + 1));
    out.push_str(&format!(
        "{} {} {fill}{}\n",
        look.or_ascii("┌", "+"),
        look.paint(Style::Bold, &heading),
        look.or_ascii("┐", "+")
    ));
    for line in lines {
        let text = pad(&shorten(&line.text, inner, look), inner);
        // A line that was cut inside its coloured part loses its colour, not its words.
        let painted = match (text.get(..line.from), text.get(line.from..line.to), text.get(line.to..)) {
            (Some(front), Some(part), Some(rest)) => format!("{front}{}{rest}", look.paint(line.style, part)),
            _ => text,
        };
        out.push_str(&format!("{side} {painted} {side}\n"));
    }
    out.push_str(&format!("{}{}{}\n", look.or_ascii("└", "+"), bar.repeat(inner + 2), look.or_ascii("┘", "+")));
}

fn links(out: &mut String, view: &StatusView, look: Look) {
    let standbys: BTreeSet<&ServerName> = view.links.iter().map(|link| &link.standby).collect();
    let mut drawn = BTreeSet::new();
    for server in view.sites.iter().flat_map(|site| &site.servers) {
        // A standby below another server is drawn there; anything else is a root.
        if standbys.contains(&server.name) {
            continue;
        }
        out.push_str(&format!("{} ({})\n", look.paint(Style::Bold, server.name.as_str()), server.role.word()));
        branch(out, &server.name, "", view, &mut drawn, look);
    }
    // Links in a circle or from a server outside the inventory must not vanish.
    for link in view.links.iter().filter(|link| !drawn.contains(&link.standby)) {
        out.push_str(&format!("{} {} {}\n", link.upstream, look.or_ascii("─▶", "->"), describe(link, look)));
    }
}

fn branch<'a>(
    out: &mut String,
    upstream: &ServerName,
    indent: &str,
    view: &'a StatusView,
    drawn: &mut BTreeSet<&'a ServerName>,
    look: Look,
) {
    let below: Vec<&LinkReport> = view.links.iter().filter(|link| link.upstream == *upstream).collect();
    for (at, link) in below.iter().enumerate() {
        if !drawn.insert(&link.standby) {
            continue;
        }
        let last = at + 1 == below.len();
        let arm = if last { look.or_ascii("└─▶", "`->") } else { look.or_ascii("├─▶", "|->") };
        out.push_str(&format!("{indent}{arm} {}\n", describe(link, look)));
        let deeper = format!("{indent}{}", if last { "    " } else { look.or_ascii("│   ", "|   ") });
        branch(out, &link.standby, &deeper, view, drawn, look);
    }
}

fn describe(link: &LinkReport, look: Look) -> String {
    let mut words = vec![link.standby.to_string()];
    words.push(link.state.as_deref().map_or("no stream seen".to_owned(), one_line));
    words.extend(link.sync_state.as_deref().map(one_line));
    words.extend(link.lag_bytes.map(|lag| format!("lag {}", signed_bytes(lag))));
    words.extend(link.canary_ms.map(|ms| format!("canary {}", milliseconds(ms))));
    words.extend(link.slot.as_deref().map(|slot| format!("slot {}", one_line(slot))));
    words.extend(link.tls.as_deref().map(one_line));
    words.push(look.paint(verdict_style(link.verdict), verdict_word(link.verdict)));
    words.join("  ")
}

/// Renders one picture of `--watch`: in place on a terminal, below the one before elsewhere.
pub fn render_frame(view: &StatusView, time: jiff::civil::Time, every: u64, look: Look) -> String {
    frame(&render(view, look), time, every, look)
}

/// Puts the time over a text and, on a terminal, both in the place of the ones before.
pub fn frame(picture: &str, time: jiff::civil::Time, every: u64, look: Look) -> String {
    let time = time.strftime("%H:%M:%S");
    if !look.redraw {
        return format!("{time}\n{picture}\n");
    }
    // The cursor goes home, each line clears its own rest, and the end clears what is left of a longer picture.
    let lines = format!("{time}  every {every} s, Ctrl-C ends\n\n{picture}").replace('\n', "\x1b[K\n");
    format!("\x1b[H{lines}\x1b[J")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::samples;

    #[test]
    fn picture() {
        insta::assert_snapshot!(render(&samples::status(), Look::PLAIN));
    }

    #[test]
    fn picture_in_ascii_and_narrow() {
        insta::assert_snapshot!(render(&samples::status(), Look { unicode: false, width: 60, ..Look::PLAIN }));
    }

    #[test]
    fn every_line_of_a_box_is_equally_wide() {
        let widths: BTreeSet<usize> = render(&samples::status(), Look::PLAIN)
            .lines()
            .filter(|l| l.starts_with(['┌', '│', '└']) && !l.contains('▶'))
            .map(columns)
            .collect();
        assert_eq!(widths.len(), 1, "{widths:?}");
    }

    #[test]
    fn a_circle_of_links_ends_and_is_shown() {
        let mut view = samples::status();
        view.links.truncate(2);
        view.links[0].upstream = samples::server("c");
        let text = render(&view, Look::PLAIN);
        assert!(text.contains("c ─▶ b  streaming"), "{text}");
        assert!(text.contains("b ─▶ c  streaming"), "{text}");
    }

    #[test]
    fn frames() {
        let time = jiff::civil::time(12, 3, 4, 0);
        assert!(render_frame(&samples::status(), time, 2, Look::PLAIN).starts_with("12:03:04\ncrawler: unhealthy\n"));
        let frame = render_frame(&samples::status(), time, 2, Look { redraw: true, ..Look::PLAIN });
        assert!(frame.starts_with("\x1b[H12:03:04  every 2 s, Ctrl-C ends\x1b[K\n"));
        assert!(frame.ends_with("\x1b[J"));
    }
}
