//! The commands that make and watch traffic.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lab::nfs4::{Ack, Outage, Probe, Report, Writer, verify};
use lab::smb::SmbWriter;
use lab::{Context, Error, Lab, Result};

#[derive(clap::Args)]
pub struct Where {
    /// The machine to work on: c1 (subnet office) or c2 (subnet lab)
    #[arg(long, default_value = "c1")]
    client: String,
    /// The server's virtual address
    server: IpAddr,
    /// How long to go on
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Pause between two requests
    #[arg(long, default_value_t = 10)]
    pause_ms: u64,
}

#[derive(clap::Args)]
pub struct NfsWriter {
    #[command(flatten)]
    at: Where,
    /// Directory as the server exports it
    directory: String,
    /// Name of the file; it begins anew
    #[arg(long, default_value = "records")]
    file: String,
    /// Where each acknowledged record is noted: its number, when (s), how long it took (s)
    #[arg(long)]
    log: Option<PathBuf>,
}

#[derive(clap::Args)]
pub struct NfsProbe {
    #[command(flatten)]
    at: Where,
    /// Directory to list
    path: String,
}

#[derive(clap::Args)]
pub struct SmbArgs {
    #[command(flatten)]
    at: Where,
    /// Name of the share
    share: String,
    /// user%password; a guest without it
    #[arg(long)]
    user: Option<String>,
    /// Where each acknowledged file is noted: its number, when (s), how long it took (s)
    #[arg(long)]
    log: Option<PathBuf>,
}

impl Where {
    fn pause(&self) -> Duration {
        Duration::from_millis(self.pause_ms)
    }

    /// Does `work` until the time is over.
    fn meanwhile<T: Send>(&self, work: impl FnOnce(&AtomicBool) -> T + Send) -> T {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let worker = scope.spawn(|| work(&stop));
            let end = Instant::now() + Duration::from_secs(self.seconds);
            while Instant::now() < end && !worker.is_finished() {
                thread::sleep(Duration::from_millis(20));
            }
            stop.store(true, Ordering::SeqCst);
            worker
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

/// Writes records over NFS, then checks that each acknowledged one is there.
pub fn nfs_writer(lab: &Lab, args: &NfsWriter) -> Result<()> {
    let writer = Writer {
        server: args.at.server,
        client: format!("lab {} {}", args.at.client, std::process::id()),
        directory: args.directory.clone(),
        file: args.file.clone(),
        pause: args.at.pause(),
    };
    let mut log = Log::open(args.log.as_deref())?;
    let report = args.at.meanwhile(|stop| {
        lab.on_network_of(&args.at.client, || writer.run(stop, |ack| log.note(ack)))
    })?;
    println!("{report}");
    lab.on_network_of(&args.at.client, || verify(&writer, &report))??;
    println!("each acknowledged record is there");
    Ok(())
}

/// Asks for a listing over NFS, and prints the times without an answer.
pub fn nfs_probe(lab: &Lab, args: &NfsProbe) -> Result<()> {
    let probe = Probe {
        server: args.at.server,
        path: args.path.clone(),
        pause: args.at.pause(),
    };
    let begun = Instant::now();
    let tell = |outage: &Outage| {
        let from = (outage.from - begun).as_secs_f64();
        let length = outage.length().as_secs_f64();
        println!(
            "{from:8.3} s: no answer for {length:.3} s ({})",
            outage.reason
        );
    };
    let outages = args
        .at
        .meanwhile(|stop| lab.on_network_of(&args.at.client, || probe.run(stop, tell)))?;
    match outages.last() {
        Some(last) if last.until.is_none() => {
            Err(Error::new(format!("no answer at the end: {}", last.reason)))
        }
        _ => {
            println!("{} outages", outages.len());
            Ok(())
        }
    }
}

/// Puts files over SMB, then checks that each acknowledged one is there.
pub fn smb_writer(lab: &Lab, args: &SmbArgs) -> Result<()> {
    let writer = SmbWriter {
        machine: args.at.client.clone(),
        server: args.at.server,
        share: args.share.clone(),
        user: args.user.clone(),
        prefix: "record".to_owned(),
        pause: args.at.pause(),
    };
    let mut log = Log::open(args.log.as_deref())?;
    let report: Report = args
        .at
        .meanwhile(|stop| writer.run(lab, stop, |ack| log.note(ack)));
    println!("{report}");
    if let Some(e) = report.error {
        return Err(Error::new(e));
    }
    match writer.missing(lab, &report)? {
        0 => println!("each acknowledged file is there"),
        lost => return Err(Error::new(format!("{lost} acknowledged files are lost"))),
    }
    Ok(())
}

/// Notes acknowledgements in a file, if there is to be one.
struct Log {
    file: Option<BufWriter<File>>,
    begun: Instant,
}

impl Log {
    fn open(path: Option<&Path>) -> Result<Self> {
        let open = |path: &Path| File::create(path).context(path.display());
        Ok(Self {
            file: path.map(open).transpose()?.map(BufWriter::new),
            begun: Instant::now(),
        })
    }

    fn note(&mut self, ack: &Ack) {
        if let Some(file) = &mut self.file {
            let (at, took) = ((ack.at - self.begun).as_secs_f64(), ack.took.as_secs_f64());
            if let Err(e) = writeln!(file, "{} {at:.6} {took:.6}", ack.number) {
                eprintln!("lab: log: {e}");
                self.file = None;
            }
        }
    }
}
