//! Lines of the log, with a level that the host takes over: `edge::log::warn("the disk is slow")`.

pub fn debug(message: impl AsRef<str>) {
    write("DEBUG", message.as_ref());
}

pub fn info(message: impl AsRef<str>) {
    write("INFO", message.as_ref());
}

pub fn warn(message: impl AsRef<str>) {
    write("WARN", message.as_ref());
}

pub fn error(message: impl AsRef<str>) {
    write("ERROR", message.as_ref());
}

fn write(level: &str, message: &str) {
    eprintln!("{} {}", level, message.replace('\n', " "));
}
