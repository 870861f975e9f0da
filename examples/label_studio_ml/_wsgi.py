"""What ``label-studio-ml start`` runs, and what gunicorn loads as ``_wsgi:app``.

The model is loaded here, before the first request: Label Studio waits three seconds for its ``/setup``.
"""

import argparse
import logging

from label_studio_ml.api import init_app
from model import Sam3Model

from sam3_backend.label_studio.ml_sdk import shared_backend

logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
shared_backend()

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="SAM 3 behind label-studio-ml")
    parser.add_argument("-p", "--port", type=int, default=9090)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--basic-auth-user")
    parser.add_argument("--basic-auth-pass")
    arguments = parser.parse_args()
    app = init_app(Sam3Model, arguments.basic_auth_user, arguments.basic_auth_pass)
    app.run(host=arguments.host, port=arguments.port, threaded=True)
else:
    app = init_app(Sam3Model)
