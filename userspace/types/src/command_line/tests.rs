use super::*;

fn line(arguments: &[&str]) -> String {
    let all: String = arguments.iter().flat_map(|argument| [*argument, "\0"]).collect();
    redacted(all.as_bytes(), false)
}

#[test]
fn command_lines_without_secrets_stay_as_they_are() {
    for (arguments, expected) in [
        (
            &["psql", "-XAt", "-h", "10.0.0.9", "-c", "SELECT 1"][..],
            "psql -XAt -h 10.0.0.9 -c 'SELECT 1'",
        ),
        (
            &["/usr/bin/python3", "-u", "/opt/agent/main.py"],
            "/usr/bin/python3 -u /opt/agent/main.py",
        ),
        (
            &["curl", "-sS", "https://api.example.com/v1/items?id=7"],
            "curl -sS 'https://api.example.com/v1/items?id=7'",
        ),
        (
            &["git", "clone", "git@example.com:team/repo.git"],
            "git clone git@example.com:team/repo.git",
        ),
        (&["sh", "-c", "it's\nhere"], r"sh -c 'it'\''s\nhere'"),
        (&["ls", ""], "ls ''"),
        (&["/usr/bin/passwd"], "/usr/bin/passwd"),
        (
            &["java", "-jar", "/srv/report-service-2.4.1.jar", "--port=8080"],
            "java -jar /srv/report-service-2.4.1.jar --port=8080",
        ),
    ] {
        assert_eq!(line(arguments), expected);
    }
}

#[test]
fn secrets_are_replaced() {
    for (arguments, expected) in [
        (&["mysql", "-phunter2", "-h", "db"][..], "mysql -p*** -h db"),
        (&["sshpass", "-p", "hunter2", "ssh", "host"], "sshpass -p *** ssh host"),
        (&["tool", "--password", "hunter2", "--host", "db"], "tool --password *** --host db"),
        (&["tool", "--password=hunter2 and blanks", "x"], "tool --password=*** x"),
        (&["tool", "--api-key=hunter2"], "tool --api-key=***"),
        (&["tool", "--token", "-hunter2", "x"], "tool --token *** x"),
        (&["tool", "--no-password", "-p", "hunter2"], "tool --no-password *** ***"),
        (&["env", "PGPASSWORD=hunter2", "psql"], "env PGPASSWORD=*** psql"),
        (&["env", "STRIPE_KEY=hunter2", "x"], "env STRIPE_KEY=*** x"),
        (&["docker", "run", "-e", "APP_SECRET=hun&ter;2"], "docker run -e APP_SECRET=***"),
        (
            &["java", "-Dspring.datasource.password=hunter2"],
            "java -Dspring.datasource.password=***",
        ),
        (&["psql", "postgresql://ada:hunter2@db/bank"], "psql postgresql://***@db/bank"),
        (&["psql", "postgresql://ada:hun/t@er2@db/bank"], "psql postgresql://***@db/bank"),
        (&["sqlplus", "scott/hunter2@orcl"], "sqlplus ***@orcl"),
        (
            &["psql", "host=db user=ada password=hunter2 dbname=x"],
            "psql 'host=db user=ada password=*** dbname=x'",
        ),
        (
            &["psql", "host=db password='hun ter2' dbname=x"],
            r"psql 'host=db password='\''*** dbname=x'",
        ),
        (
            &["curl", "-H", "Authorization: Bearer hunter2", "https://x"],
            "curl -H Authorization:*** https://x",
        ),
        (&["curl", "-H", "X-Api-Key: hunter2 hunter2"], "curl -H X-Api-Key:***"),
        (&["curl", "-u", "ada:hunter2", "https://x"], "curl -u ada:*** https://x"),
        (&["curl", "-uada:hunter2"], "curl -uada:***"),
        (&["curl", "--proxy-user", "ada:hunter2"], "curl --proxy-user ada:***"),
        (&["curl", "https://x/?access_token=hunter2&y=1"], "curl 'https://x/?access_token=***'"),
        (
            &["curl", "-d", r#"{"user":"ada","password":"hunter2"}"#],
            r#"curl -d '{"user":"ada","password":"***'"#,
        ),
        (
            &["psql", "-c", "ALTER ROLE ada PASSWORD 'hunter2'"],
            r"psql -c 'ALTER ROLE ada PASSWORD '\''***'",
        ),
        (
            &["mysql", "-e", "CREATE USER a IDENTIFIED BY 'hunter2'"],
            r"mysql -e 'CREATE USER a IDENTIFIED BY '\''***'",
        ),
        (&["sh", "-c", "mysql --password hunter2 -h db"], "sh -c 'mysql --password *** -h db'"),
        (&["sh", "-c", "mysql --password=hunter2 -h db"], "sh -c 'mysql --password=*** -h db'"),
        (
            &["sh", "-c", "mysql --password \"hun ter2\" -h db"],
            "sh -c 'mysql --password \"*** -h db'",
        ),
        (&["sh", "-c", r"mysql --password=hun\ ter2 -h db"], "sh -c 'mysql --password=*** -h db'"),
        (&["sh", "-c", "mysql -phunter2 -h db"], "sh -c 'mysql -p*** -h db'"),
        (&["openssl", "rsa", "-passin", "pass:hunter2"], "openssl rsa -p*** ***"),
        (&["redis-cli", "-a", "hunter2"], "redis-cli -a ***"),
        (&["x", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln"], "x ***"),
        (&["x", "ghp_abcdefghijklmnop"], "x ***"),
        (&["x", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"], "x ***"),
        (&["x", "9f86d081884c7d659a2feaa0c55ad015"], "x ***"),
        (&["x", "id=3fa85f64-5717-4562-b3fc-2c963f66afa6"], "x ***"),
        (&["x", "--opt=tR8kZq2LmX9vB4nW7yPs"], "x ***"),
        (&["x", "/run/tR8kZq2LmX9vB4nW7yPs/sock"], "x ***"),
        (&["x", "-----BEGIN PRIVATE KEY-----\nhunter2"], "x ***"),
    ] {
        let found = line(arguments);
        assert!(!found.contains("hunter2") && !found.contains("ter2"), "{found}");
        assert_eq!(found, expected, "{arguments:?}");
    }
}

/// Wherever a secret's name stands and however the secret is attached, it does not come out.
#[test]
fn no_way_of_giving_a_secret_lets_it_out() {
    let secret = "Zq'7 \"x;&|$(y)";
    for name in ["password", "PGPASSWORD", "api_key", "apiKey", "client-secret", "AUTH_TOKEN", "pw"]
    {
        for arguments in [
            vec![format!("--{name}"), secret.to_owned()],
            vec![format!("--{name}={secret}")],
            vec![format!("-{name}"), secret.to_owned()],
            vec![format!("{name}={secret}")],
            vec![format!("{name}: {secret}")],
            vec![name.to_owned(), secret.to_owned()],
            vec!["-p".to_owned(), secret.to_owned()],
            vec![format!("-p{secret}")],
            vec!["-u".to_owned(), format!("ada:{secret}")],
            vec![format!("-uada:{secret}")],
            vec!["-u".to_owned(), format!("ada:{secret}@host")],
            vec!["sh".to_owned(), format!("run --{name} '{}' x", secret.replace('\'', "'\\''"))],
            vec![format!("https://ada:{}@host/x", secret.replace(' ', ""))],
        ] {
            let mut all = vec!["program"];
            all.extend(arguments.iter().map(String::as_str));
            let found = line(&all);
            assert!(!found.contains("Zq") && !found.contains("(y)"), "{arguments:?}: {found}");
        }
    }
}

#[test]
fn what_is_cut_shows_no_half_a_secret() {
    assert_eq!(redacted(b"x\0y 4tR8kZq2LmX", true), "x y …");
    assert_eq!(redacted(b"x\0--password\0hunt", true), "x --password *** …");
    assert_eq!(redacted(b"x\0hunt", true), "x '' …");
    let many = "a\0".repeat(ARGUMENTS_MAX + 1);
    assert_eq!(
        redacted(many.as_bytes(), false),
        format!("{} …", vec!["a"; ARGUMENTS_MAX].join(" "))
    );
    let long = redacted("é é".repeat(3000).as_bytes(), false);
    assert!(long.len() <= COMMAND_LINE_BYTES_MAX && long.ends_with(" …"));
}

#[test]
fn any_bytes_give_a_line() {
    let mut seed = 1_u64;
    for length in 0..600 {
        let bytes: Vec<u8> = (0..length)
            .map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (seed >> 56).to_le_bytes()[0]
            })
            .collect();
        let line = redacted(&bytes, length % 2 == 0);
        assert!(!line.contains(char::is_control), "{line:?}");
    }
}
