//! Tables that fit: columns as wide as what they hold, or as the screen lets them be.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Between two columns.
const GAP: usize = 2;
/// What stands for what was cut.
const CUT: &str = "…";

/// Where a table is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Screen {
    /// Columns of characters; none where nothing is to be cut.
    pub width: Option<usize>,
    /// Whether it shows colours.
    pub colours: bool,
}

impl Screen {
    /// Standard output: a terminal has a width, and colours unless NO_COLOR is set (no-color.org) or it is dumb.
    #[must_use]
    pub fn of_stdout(is_terminal: bool, environment: impl Fn(&str) -> Option<String>) -> Self {
        if !is_terminal {
            return Self::default();
        }
        let unwanted = environment("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = environment("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        let size = terminal_size::terminal_size_of(std::io::stdout());
        Self {
            width: size.map(|(width, _)| usize::from(width.0)).filter(|width| *width > 0),
            colours: !unwanted && !dumb,
        }
    }
}

/// How a cell or a line is set off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Paint {
    /// As it is.
    #[default]
    Plain,
    /// A heading.
    Bold,
    /// Bad.
    Red,
    /// Of less interest.
    Dim,
}

impl Paint {
    /// The sequence that begins it (ECMA-48, SGR).
    const fn begin(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Bold => "\u{1b}[1m",
            Self::Red => "\u{1b}[31m",
            Self::Dim => "\u{1b}[2m",
        }
    }

    /// The text set off so, if the screen can.
    #[must_use]
    pub fn on(self, text: &str, screen: Screen) -> String {
        if screen.colours && self != Self::Plain && !text.is_empty() {
            format!("{}{text}\u{1b}[0m", self.begin())
        } else {
            text.to_owned()
        }
    }
}

/// How much a column gives where there is too little room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Give {
    /// Nothing.
    Nothing,
    /// Prose and paths: the first to give.
    First,
    /// Names: the next.
    Then,
    /// Words of closed sets: the last.
    Last,
}

/// The steps in which room is found: who gives, and down to which width.
const STEPS: [(Give, usize); 5] =
    [(Give::First, 12), (Give::Then, 12), (Give::Last, 12), (Give::Then, 6), (Give::Last, 6)];

/// A column: its heading and what it gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// The heading.
    pub title: &'static str,
    /// What it gives.
    pub give: Give,
}

/// A line of cells, all in one style; the columns that are set off are the caller's choice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// The cells, clean text.
    pub cells: Vec<String>,
    /// The style of the cells in `styled`.
    pub style: Paint,
}

/// Writes a table. `styled` tells which columns show a line's style.
#[must_use]
pub fn write(columns: &[Column], lines: &[Line], styled: impl Fn(usize) -> bool, screen: Screen) -> String {
    let mut widths = widths(columns, lines);
    if let Some(most) = screen.width {
        fit(columns, &mut widths, most);
    }
    let mut out = String::new();
    let titles: Vec<String> = columns.iter().map(|column| column.title.to_owned()).collect();
    write_line(&mut out, &titles, &widths, |_| Paint::Bold, screen);
    for line in lines {
        let style = |index| if styled(index) { line.style } else { Paint::Plain };
        write_line(&mut out, &line.cells, &widths, style, screen);
    }
    out
}

/// Whether nothing of the table must be cut but prose, of which so much can be read that it makes sense.
#[must_use]
pub fn fits(columns: &[Column], lines: &[Line], screen: Screen) -> bool {
    const PROSE: usize = 20;
    let mut widths = widths(columns, lines);
    for (width, _) in widths.iter_mut().zip(columns).filter(|(_, column)| column.give == Give::First) {
        *width = (*width).min(PROSE);
    }
    screen.width.is_none_or(|most| total(&widths) <= most)
}

fn widths(columns: &[Column], lines: &[Line]) -> Vec<usize> {
    let mut widths: Vec<usize> = columns.iter().map(|column| column.title.width()).collect();
    for line in lines {
        for (width, cell) in widths.iter_mut().zip(&line.cells) {
            *width = (*width).max(cell.width());
        }
    }
    widths
}

fn total(widths: &[usize]) -> usize {
    widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1)
}

/// Narrows columns, the widest first, until the line fits or nobody gives any more.
fn fit(columns: &[Column], widths: &mut [usize], most: usize) {
    for (give, least) in STEPS {
        while total(widths) > most {
            let gives = columns.iter().map(|column| column.give == give);
            let mut candidates =
                widths.iter_mut().zip(gives).filter(|(width, gives)| *gives && **width > least);
            let Some(first) = candidates.next() else { break };
            let (width, _) = candidates.fold(first, |widest, it| if *it.0 > *widest.0 { it } else { widest });
            *width -= 1;
        }
    }
}

fn write_line(
    out: &mut String,
    cells: &[String],
    widths: &[usize],
    style: impl Fn(usize) -> Paint,
    screen: Screen,
) {
    let mut room = screen.width.unwrap_or(usize::MAX);
    let mut owed = 0;
    for (index, (cell, width)) in cells.iter().zip(widths).enumerate() {
        if room <= owed {
            break;
        }
        let text = cut(cell, (*width).min(room - owed));
        if !text.is_empty() {
            // Spaces come with what follows them, so that no line ends in one.
            out.extend(std::iter::repeat_n(' ', owed));
            out.push_str(&style(index).on(&text, screen));
            room = room.saturating_sub(owed + text.width());
            owed = 0;
        }
        owed += width.saturating_sub(text.width()) + GAP;
    }
    out.push('\n');
}

/// The beginning of a text that fits into so many columns, with a mark if that is not all of it.
#[must_use]
pub fn cut(text: &str, most: usize) -> String {
    if text.width() <= most {
        return text.to_owned();
    }
    let mut left = most.saturating_sub(CUT.width());
    let fits = |c: &char| {
        let fits = width_of(*c) <= left;
        left = left.saturating_sub(width_of(*c));
        fits
    };
    let mut kept: String = text.chars().take_while(fits).collect();
    loop {
        // Half of a joined emoji must not join the mark.
        kept.truncate(kept.trim_end_matches(['\u{200d}', '\u{fe0f}']).len());
        let marked = format!("{kept}{CUT}");
        if marked.width() <= most {
            return marked;
        }
        // Characters can be wider together than each by itself: a digit that is shown as an emoji.
        if !drop_last(&mut kept) {
            return String::new();
        }
    }
}

/// Takes the last character that has a width away, with all that belongs to it; false if there is none.
fn drop_last(text: &mut String) -> bool {
    while let Some(last) = text.pop() {
        if width_of(last) > 0 {
            return true;
        }
    }
    false
}

fn width_of(c: char) -> usize {
    // A control character counts as one in a text, and has no width by itself.
    c.width().unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_by_what_it_takes_on_a_screen() {
        for (text, most, expected) in [
            ("abc", 3, "abc"),
            ("abcd", 3, "ab…"),
            ("abcd", 1, "…"),
            ("abcd", 0, ""),
            ("가나다", 6, "가나다"),
            ("가나다", 5, "가나…"),
            ("가나다", 4, "가…"),
            ("👩‍👩‍👧‍👦abcdef", 4, "👩…"),
            ("e\u{301}e\u{301}e\u{301}", 2, "e\u{301}…"),
            ("", 0, ""),
        ] {
            assert_eq!(cut(text, most), expected, "{text} to {most}");
            assert!(cut(text, most).width() <= most);
        }
    }

    #[test]
    fn no_sequence_of_characters_is_wider_than_what_it_is_cut_to() {
        let keycaps = "1\u{fe0f}\u{20e3}2\u{fe0f}\u{20e3}3\u{fe0f}\u{20e3}";
        for (text, most, expected) in [
            ("1\u{fe0f}1\u{fe0f}1\u{fe0f}1\u{fe0f}", 4, "1\u{fe0f}1…"),
            (keycaps, 4, "1\u{fe0f}\u{20e3}…"),
            (keycaps, 2, "…"),
            ("\u{2764}\u{fe0f}\u{2764}\u{fe0f}", 3, "\u{2764}…"),
            ("🇩🇪🇰🇷🇫🇷", 5, "🇩🇪🇰🇷…"),
            ("👩‍👩‍👧‍👦👩‍👩‍👧‍👦", 3, "👩…"),
        ] {
            assert_eq!(cut(text, most), expected, "{text} to {most}");
        }
        let parts = [
            "a",
            "1\u{fe0f}",
            keycaps,
            "\u{2764}\u{fe0f}",
            "👩‍👩‍👧‍👦",
            "👍🏽",
            "🏳️‍🌈",
            "🇩🇪",
            "🇰",
            "가",
            "e\u{301}",
            "\u{200d}",
            "\u{fe0f}",
            "لا",
            "ក្ក",
            "\n",
        ];
        for first in parts {
            for second in parts {
                let text = [first, second].concat().repeat(4);
                for most in 0..=text.width() {
                    let cut = cut(&text, most);
                    assert!(cut.width() <= most, "{text:?} to {most}: {cut:?}");
                }
            }
        }
    }

    #[test]
    fn a_line_of_emoji_fits_the_screen() {
        let columns = ["A", "B"].map(|title| Column { title, give: Give::First });
        let cell = "1\u{fe0f}".repeat(30);
        let line = Line { cells: vec![cell.clone(), cell], style: Paint::Plain };
        for width in 1..60 {
            let screen = Screen { width: Some(width), colours: false };
            let table = write(&columns, std::slice::from_ref(&line), |_| false, screen);
            assert!(table.lines().all(|line| line.width() <= width), "{width}: {table}");
        }
    }

    #[test]
    fn a_terminal_has_colours_unless_it_must_not() {
        for (term, no_color, expected) in [
            (Some("xterm"), None, true),
            (Some("xterm"), Some(""), true),
            (Some("xterm"), Some("1"), false),
            (Some("dumb"), None, false),
            (None, None, false),
        ] {
            let environment = |name: &str| {
                let value = if name == "TERM" { term } else { no_color.filter(|_| name == "NO_COLOR") };
                value.map(str::to_owned)
            };
            assert_eq!(Screen::of_stdout(true, environment).colours, expected, "{term:?} {no_color:?}");
            assert_eq!(Screen::of_stdout(false, environment), Screen::default());
        }
    }
}
