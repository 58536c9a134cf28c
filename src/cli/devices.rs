//! `graphc devices`: what models can run on.

use super::{Failure, outln, print_json};

#[derive(clap::Args)]
#[command(after_help = "\
Names are TensorFlow's; `--device` takes their short forms too.

Examples:
  graphc devices
  graphc run model/ --device GPU:0")]
pub struct Args {
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<(), Failure> {
    let (devices, error) = graphc::devices();
    if args.json {
        print_json(&devices)?;
    } else {
        for d in &devices {
            let memory = if d.memory > 0 { format!(", {} MiB", d.memory >> 20) } else { String::new() };
            outln!("{}  {}{memory}", d.name, d.description);
        }
    }
    if let Some(e) = error {
        anstream::eprintln!("{e}");
    } else if !cfg!(feature = "gpu-driver") {
        anstream::eprintln!("this build is for the CPU alone; build with the feature `gpu` for GPUs");
    } else if !cfg!(feature = "gpu") {
        anstream::eprintln!("this build runs packages on GPUs; build with the feature `gpu` to run models there");
    }
    Ok(())
}
