"""What Ray Serve adds to a request, how far replicas carry, and what a large cluster needs.

    .venv/bin/python benchmarks/scale.py hop [--rounds 7] [--seconds 1]
    .venv/bin/python benchmarks/scale.py growth [--rounds 2] [--seconds 10] [--replicas 1 2 16]
    .venv/bin/python benchmarks/scale.py sizing [--rounds 3] [--requests 100]

Everything runs on this machine, clients, servers and Ray: a processor that all of them share bounds
what is measured, and the tables say how much of it each kind of process took.
"""

import argparse
import signal

import report
import scale_growth
import scale_hop
import scale_sizing

PARTS = {"hop": scale_hop, "growth": scale_growth, "sizing": scale_sizing}


def main() -> None:
    """Measure, and publish."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = parser.add_subparsers(dest="part", required=True)
    for name, module in PARTS.items():
        module.add_options(parts.add_parser(name))
    told = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # end the servers then, too
    report.publish(PARTS[told.part].measure(told))


if __name__ == "__main__":
    main()
