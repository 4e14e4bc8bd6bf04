use super::*;

fn parse(line: &str) -> Result<Command, clap::Error> {
    Arguments::try_parse_from(line.split_whitespace()).map(|arguments| arguments.command)
}

fn run_line(line: &str) -> (String, anyhow::Result<Exit>) {
    let mut out = Vec::new();
    let result = execute(parse(line).unwrap(), &mut out);
    (String::from_utf8(out).unwrap(), result)
}

fn broken_file() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "nonsense: [\n").unwrap();
    file
}

#[test]
fn the_arguments_are_consistent() {
    use clap::CommandFactory;
    Arguments::command().debug_assert();
}

#[test]
fn check_has_two_spellings() {
    for arguments in ["", " --config x.yaml", " -c x.yaml --json", " --json"] {
        let long = parse(&format!("hearthgate check{arguments}")).unwrap();
        let short = parse(&format!("hearthgate -t{arguments}")).unwrap();
        assert_eq!(long, short, "{arguments}");
    }
}

#[test]
fn the_configuration_has_a_usual_place() {
    for command in ["run", "check", "reload", "status"] {
        let default = parse(&format!("hearthgate {command}")).unwrap();
        let named = parse(&format!("hearthgate {command} --config /etc/hearthgate/hearthgate.yaml")).unwrap();
        assert_eq!(default, named);
    }
}

#[test]
fn wrong_usage_exits_with_2_and_help_with_0() {
    for line in [
        "hearthgate",
        "hearthgate fly",
        "hearthgate run --json",
        "hearthgate status --socket",
        "hearthgate demo --listen nowhere",
        "hearthgate check run",
    ] {
        assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
    }
    for line in ["hearthgate --help", "hearthgate --version", "hearthgate run --help"] {
        assert_eq!(parse(line).unwrap_err().exit_code(), 0, "{line}");
    }
}

#[test]
fn version_is_one_line() {
    let (out, result) = run_line("hearthgate version");
    assert_eq!(out, format!("hearthgate {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(result.unwrap(), Exit::Good);
}

#[test]
fn a_bad_configuration_exits_with_78_and_its_findings() {
    let file = broken_file();
    for command in ["check", "run"] {
        let (out, result) = run_line(&format!("hearthgate {command} --config {}", file.path().display()));
        let mut complaints = Vec::new();
        assert_eq!(exit_of(result, &mut complaints), Exit::BadConfig, "{command}");
        let complaints = String::from_utf8(complaints).unwrap();
        assert!(complaints.contains(&file.path().display().to_string()), "{complaints}");
        assert_eq!(out, "");
    }
}

#[test]
fn check_tells_the_same_as_json() {
    let file = broken_file();
    let (out, result) = run_line(&format!("hearthgate check --json --config {}", file.path().display()));
    assert_eq!(result.unwrap(), Exit::BadConfig);
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["accepted"], false);
    assert_eq!(report["file"], file.path().display().to_string());
    assert!(!report["findings"].as_array().unwrap().is_empty());
    assert!(!report["findings"][0]["message"].as_str().unwrap().is_empty());
}

#[test]
fn no_gate_is_said_in_one_line() {
    for command in ["status", "reload"] {
        let (_, result) = run_line(&format!("hearthgate {command} --socket /nonexistent/admin.sock"));
        let mut complaints = Vec::new();
        assert_eq!(exit_of(result, &mut complaints), Exit::Failed);
        let expected = "hearthgate: no gate is running: nobody listens at /nonexistent/admin.sock\n";
        assert_eq!(String::from_utf8(complaints).unwrap(), expected);
    }
}

#[test]
fn a_broken_file_does_not_keep_anybody_from_asking() {
    let file = broken_file();
    let argument = |socket: Option<&str>| SocketArgument {
        file: ConfigArgument { config: file.path().to_owned() },
        socket: socket.map(PathBuf::from),
    };
    assert_eq!(argument(None).find(), (DEFAULT_SOCKET.into(), true));
    assert_eq!(argument(Some("/x")).find(), ("/x".into(), false));
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    let mut complaints = Vec::new();
    let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
    assert_eq!(exit_of(Err(gone().into()), &mut complaints), Exit::Good);
    assert_eq!(exit_of(Err(serde_json::Error::io(gone()).into()), &mut complaints), Exit::Good);
    assert_eq!(complaints, b"");
    assert_eq!(exit_of(Err(anyhow::anyhow!("x").context("y")), &mut complaints), Exit::Failed);
    assert_eq!(complaints, b"hearthgate: y: x\n");
}
