"""A Gradio interface that gives a picture back.

    python gradio_peer.py --port 8001

Runs in an environment that has Gradio.
"""

import argparse

import gradio as gr  # type: ignore[import-not-found]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    page = gr.Interface(lambda picture: picture, gr.Image(), gr.Image())
    page.launch(server_name="127.0.0.1", server_port=port, quiet=True)


if __name__ == "__main__":
    main()
