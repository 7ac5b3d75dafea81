"""Access: how the lab is protected, who may come in, and what each may do."""

import streamlit as st

import access_view

st.title("Access", anchor=False)
access_view.draw()
