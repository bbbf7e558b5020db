"""The flags of one of several processes that run one command together."""

import argparse

from rsd_jax.errors import ConfigError


def add_process_flags(parser: argparse.ArgumentParser) -> None:
    """Adds `--distributed` and what it may need; `check_processes` checks them."""
    group = parser.add_argument_group(
        "several processes",
        "The same command is started on every host, with a mesh of all their devices.",
    )
    group.add_argument(
        "--distributed",
        action="store_true",
        help="this is one of several processes, which JAX finds by itself on TPU pods and under "
        "Slurm, Open MPI or Kubernetes; elsewhere give the next three flags too",
    )
    group.add_argument(
        "--coordinator", metavar="HOST:PORT", help="where the process with --process_id 0 listens"
    )
    group.add_argument("--processes", type=int, metavar="N", help="number of processes")
    group.add_argument("--process_id", type=int, metavar="I", help="of this one, from 0")
    group.add_argument(
        "--start_timeout",
        type=int,
        default=300,
        metavar="SECONDS",
        help="how long to wait for the other processes (default 300)",
    )


def check_processes(args: argparse.Namespace) -> None:
    """Checks the flags of `add_process_flags`.

    Raises:
      ConfigError: some of three flags are given and others are not, or a number is out of range.
    """
    given = [args.coordinator, args.processes, args.process_id]
    if any(each is not None for each in given):
        if None in given or not args.distributed:
            raise ConfigError(
                "--coordinator, --processes and --process_id go together, with --distributed; or "
                "give --distributed alone where JAX finds the processes"
            )
        host, _, port = args.coordinator.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ConfigError(f"--coordinator {args.coordinator} must be HOST:PORT")
        if not 0 <= args.process_id < args.processes:
            raise ConfigError(
                f"--process_id {args.process_id} must be from 0 to --processes - 1 = "
                f"{args.processes - 1}"
            )
    if args.start_timeout < 1:
        raise ConfigError(f"--start_timeout {args.start_timeout} must be at least 1 second")
