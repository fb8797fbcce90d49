//! Manual pages, from the declarations that the program itself uses.

use std::fmt::Write;
use std::io;

use clap::ValueEnum;

use crate::config::keys::{self, Section};

/// A page that can be printed.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Page {
    /// The command
    #[value(name = "berth.8")]
    Command,
    /// The file
    #[value(name = "berth.toml.5")]
    File,
}

/// The text of a page, in roff.
pub(crate) fn page(page: Page, command: clap::Command) -> io::Result<String> {
    match page {
        Page::Command => self::command(command),
        Page::File => Ok(file()),
    }
}

fn command(command: clap::Command) -> io::Result<String> {
    let command = command.disable_help_flag(true);
    let mut page = Vec::new();
    let man = clap_mangen::Man::new(command.clone())
        .section("8")
        .manual("berth");
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    let mut text = String::from_utf8_lossy(&page).into_owned();
    text.push_str(".SH COMMANDS\n");
    for sub in command.get_subcommands().filter(|c| !c.is_hide_set()) {
        let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
        let positional = sub
            .get_positionals()
            .map(|a| format!(" {}", a.get_id().as_str().to_uppercase()));
        let positional: String = positional.collect();
        let _ = writeln!(
            text,
            ".TP\n.B berth {}{}\n{}.",
            sub.get_name(),
            escaped(&positional),
            escaped(&about)
        );
        for argument in sub
            .get_arguments()
            .filter(|a| !a.is_positional() && !a.is_hide_set())
        {
            let _ = writeln!(
                text,
                ".RS\n.TP\n{}\n{}.\n.RE",
                flag(argument),
                help(argument)
            );
        }
    }
    let _ = writeln!(text, ".SH \"EXIT STATUS\"");
    for line in super::EXIT_CODES.lines().skip(1) {
        let (code, meaning) = line.trim().split_once("  ").unwrap_or((line, ""));
        let _ = writeln!(text, ".TP\n.B {code}\n{}", escaped(meaning));
    }
    text.push_str(IN_A_CELL);
    text.push_str(NOTES);
    let _ = writeln!(
        text,
        ".SH FILES\n.TP\n.I {}\nThe configuration.\n.SH \"SEE ALSO\"\n.BR berth.toml (5),\n.BR crm (8),\n.BR pcs (8)",
        super::DEFAULT_FILE
    );
    Ok(text)
}

/// What a program of `berth exec` is to count on.
const IN_A_CELL: &str = r#".SH "PROGRAMS IN A CELL"
.B berth exec
gives a program the cell's network, mounts, processes and host name. It has the capabilities of the NFS and the SMB
server and is refused the same system calls as they are, since it reads what they may have written, such as Samba's
databases. A call that it is refused is named on standard error: "berth: refused unshare".
.PP
Of its caller's it has the standard streams alone: no other descriptor, no key, and not the terminal. Each of the
standard streams that is a terminal is replaced by a new one, which keys and output are passed on to and from.
Where only standard input is the terminal, as in a pipe to
.BR less (1),
the caller\(aqs stays in its mode, and shows what is typed even where the program asks for a password.
Each that is a file or a device is replaced by a pipe, through which all of it is passed on; what the program leaves
running when it ends can\(aqt write there any more.
.PP
With
.B \-\-privileged
it has all of root's rights. Whatever it then trusts of what it finds in the cell, a server that was taken over can use
against the node.
"#;

/// What the shells and their users should know.
const NOTES: &str = r#".SH NOTES
The plan for crm is input of
.BR "crm configure load update \fIFILE\fR" .
crm warns of what it does not know, and loads it: the meta attribute
.I berth\-home
of a virtual server with stay_on, and the constraint that refers to it ("referenced node berth\-home does
not exist"); before crmsh 5.0 also
.IR critical ,
a meta attribute of Pacemaker's own.
.PP
The plan for pcs is a script for
.BR sh (1),
which suits the pcs of the node where it runs, wherever it was made. The XML is input of
.BR "cibadmin \-\-modify \-\-allow\-create \-\-scope configuration \-\-xml\-file \fIFILE\fR" .
.PP
All resources that berth made are under the tag
.IR berth :
.B "crm_mon \-\-inactive \-\-resource berth"
and
.B "pcs status resources berth"
show them. apply removes no other resource, and changes none. One that is taken from under the tag is no
longer berth's; put it back, if that was a mistake.
"#;

fn flag(argument: &clap::Arg) -> String {
    let mut text = String::from(".B ");
    if let Some(short) = argument.get_short() {
        let _ = write!(text, "\\-{short}, ");
    }
    let _ = write!(
        text,
        "\\-\\-{}",
        escaped(argument.get_long().unwrap_or_default())
    );
    let names = argument
        .get_value_names()
        .filter(|_| argument.get_action().takes_values());
    for name in names.into_iter().flatten() {
        let _ = write!(text, " {}", name.to_uppercase());
    }
    text
}

fn help(argument: &clap::Arg) -> String {
    let mut text = argument
        .get_help()
        .map(|h| escaped(&h.to_string()))
        .unwrap_or_default();
    let choices: Vec<String> = argument
        .get_possible_values()
        .iter()
        .filter_map(|value| Some(format!("{} ({})", value.get_name(), value.get_help()?)))
        .collect();
    if !choices.is_empty() {
        let _ = write!(text, ": {}", escaped(&choices.join(", ")));
    }
    if let [default] = argument.get_default_values() {
        let _ = write!(text, "; default {}", escaped(&default.to_string_lossy()));
    }
    text
}

/// What roff would take for its own.
fn escaped(text: &str) -> String {
    let text = text
        .replace('\\', "\\e")
        .replace('-', "\\-")
        .replace('\'', "\\(aq");
    // A dot at the start of a line is a request.
    if text.starts_with('.') {
        format!("\\&{text}")
    } else {
        text
    }
}

const EXAMPLE: &str = include_str!("../../examples/berth.toml");

fn file() -> String {
    let mut text = String::from(
        ".TH berth.toml 5 \"\" berth berth\n.SH NAME\nberth.toml \\- configuration of the virtual file servers\n\
         .SH DESCRIPTION\nThe file is TOML. It is the same on every node; only the node where\n.B berth apply\nruns reads it.\n\
         Unknown keys are errors.\n",
    );
    for section in keys::ALL {
        describe(&mut text, section);
    }
    text.push_str(".SH EXAMPLE\n.nf\n");
    for line in EXAMPLE.lines() {
        let _ = writeln!(text, "{}", escaped(line));
    }
    text.push_str(".fi\n.SH \"SEE ALSO\"\n.BR berth (8)\n");
    text
}

fn describe(text: &mut String, section: &Section) {
    let head = if section.head.is_empty() {
        "TABLES"
    } else {
        section.head
    };
    let _ = writeln!(
        text,
        ".SH \"{}\"\n{}",
        escaped(&head.replace('"', "\\(dq")),
        escaped(section.text)
    );
    for key in section.keys {
        let _ = writeln!(
            text,
            ".TP\n.BR {} \" = \\fI{}\\fR\"\n{}",
            escaped(key.name),
            escaped(&key.value().replace('"', "\\(dq")),
            escaped(&key.text())
        );
    }
}
