"""Audit: who did what in this data root, when, and how it ended."""

import streamlit as st

import audit_view
import state

st.title("Audit", anchor=False)
audit_view.draw(state.data_root())
