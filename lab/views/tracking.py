"""Tracking: whether and where runs are mirrored in MLflow, and the door to it."""

import streamlit as st

st.title("Tracking", anchor=False)
