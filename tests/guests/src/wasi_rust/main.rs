//! What Rust's standard library does with files, as a component: what is on stdin goes into a file and comes back.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};

fn main() -> io::Result<()> {
    let mut given = String::new();
    io::stdin().read_to_string(&mut given)?;
    match files(&given) {
        Ok(lines) => println!("{}", lines.join("\n")),
        Err(error) => println!("error: {:?}", error.kind()),
    }
    for path in ["/data/missing", "/data/../outside", "/etc/passwd", "/data/sub"] {
        println!("{} {:?}", path, fs::read(path).map_err(|error| error.kind()));
    }
    eprintln!("done");
    Ok(())
}

fn files(given: &str) -> io::Result<Vec<String>> {
    let mut lines = Vec::new();
    fs::create_dir_all("/data/sub/deeper")?;
    fs::write("/data/sub/a.txt", given)?;
    OpenOptions::new().append(true).open("/data/sub/a.txt")?.write_all(b" and more")?;
    let mut file = File::open("/data/sub/a.txt")?;
    file.seek(SeekFrom::Start(2))?;
    let mut rest = String::new();
    file.read_to_string(&mut rest)?;
    lines.push(format!("rest {}", rest));
    fs::rename("/data/sub/a.txt", "/data/sub/b.txt")?;
    fs::hard_link("/data/sub/b.txt", "/data/sub/c.txt")?;
    lines.push(format!("copied {}", fs::copy("/data/sub/b.txt", "/data/copy.txt")?));
    let mut names = Vec::new();
    for entry in fs::read_dir("/data/sub")? {
        let entry = entry?;
        names.push(format!("{} {}", entry.file_name().to_string_lossy(), entry.file_type()?.is_dir()));
    }
    names.sort();
    lines.extend(names);
    File::options().write(true).open("/data/copy.txt")?.set_len(4)?;
    lines.push(format!("{:?} {}", fs::read_to_string("/data/copy.txt")?, fs::metadata("/data/copy.txt")?.len()));
    fs::remove_file("/data/sub/c.txt")?;
    fs::remove_dir("/data/sub/deeper")?;
    lines.push(format!("{:?}", fs::remove_dir("/data/sub").map_err(|error| error.raw_os_error())));
    Ok(lines)
}
