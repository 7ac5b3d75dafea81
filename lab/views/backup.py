"""Backup: the whole data root in one file, and back."""

import streamlit as st

import backup_view
import state

st.title("Backup", anchor=False)
backup_view.draw(state.data_root())
