//! A web server for plain files, like a CDN: it knows nothing of git, and records the requests.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Serves the files of one directory over HTTP until the test ends.
pub struct Files {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Files {
    pub fn of(directory: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (directory, heard) = (directory.to_owned(), asked.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (directory, heard) = (directory.clone(), heard.clone());
                std::thread::spawn(move || answer(stream, directory, &heard));
            }
        });
        Files { address, asked }
    }

    pub fn url(&self, name: &str) -> String {
        format!("http://{}/{name}", self.address)
    }

    /// The files requested since the last call.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

fn answer(mut stream: TcpStream, directory: PathBuf, heard: &Mutex<Vec<String>>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let Some(name) = lines.next().and_then(|line| Some(line.split(' ').nth(1)?.trim_start_matches('/').to_owned()))
    else {
        return;
    };
    lines.by_ref().take_while(|line| !line.is_empty()).for_each(drop);
    heard.lock().unwrap().push(name.clone());
    let (status, bytes) = match std::fs::read(directory.join(&name)) {
        Ok(bytes) if !name.contains("..") => ("200 OK", bytes),
        _ => ("404 Not Found", Vec::new()),
    };
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", bytes.len());
    let _ = stream.write_all(&[head.as_bytes(), &bytes].concat());
}
