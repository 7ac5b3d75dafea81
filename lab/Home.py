"""PianistID Lab: `streamlit run lab/Home.py`. The pages, behind the gate."""

import sys

import streamlit as st

from gate.server import ends_quietly, gate
from pianistid_core.errors import PianistIDError
from who import TICKET

try:
    app = st.App("shell.py", middleware=[gate(TICKET)], lifespan=ends_quietly)
except PianistIDError as error:
    sys.exit(f"PianistID Lab is not served: {error}")
