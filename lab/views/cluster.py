"""Cluster: the Ray cluster that runs may be handed to, what a run gets there, and what it has."""

import streamlit as st

import cluster_view
import state

st.title("Cluster")
cluster_view.draw(state.data_root())
