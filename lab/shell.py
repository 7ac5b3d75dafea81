"""What every page of the lab stands in: the navigation table, and what is beside each page."""

import streamlit as st

import housekeeping
import sidebar
import who
from guard import guarded
from pianistid_core.accounts import Role

st.set_page_config(page_title="PianistID Lab", page_icon="🎹", layout="wide")

PAGES = {
    "": [st.Page("views/home.py", title="Home", icon=":material/home:", default=True)],
    "Train": [
        st.Page("views/data.py", title="Data", icon=":material/library_music:", url_path="data"),
        st.Page("views/build.py", title="Build", icon=":material/tune:", url_path="build"),
        st.Page("views/runs.py", title="Runs", icon=":material/monitoring:", url_path="runs"),
        st.Page("views/compare.py", title="Compare", icon=":material/compare_arrows:", url_path="compare"),
        st.Page("views/results.py", title="Results", icon=":material/leaderboard:", url_path="results"),
    ],
    "Listen": [
        st.Page("views/identify.py", title="Identify", icon=":material/hearing:", url_path="identify"),
        st.Page("views/pianists.py", title="Pianists", icon=":material/groups:", url_path="pianists"),
    ],
    "Settings": [
        st.Page("views/tracking.py", title="Tracking", icon=":material/timeline:", url_path="tracking"),
        st.Page("views/cluster.py", title="Cluster", icon=":material/hub:", url_path="cluster"),
        st.Page("views/backup.py", title="Backup", icon=":material/inventory_2:", url_path="backup"),
        st.Page("views/access.py", title="Access", icon=":material/lock:", url_path="access"),
        st.Page("views/audit.py", title="Audit", icon=":material/history:", url_path="audit"),
    ],
}
housekeeping.remember_session()
page = st.navigation(PAGES, position="hidden")
if not who.may(Role.LOOK):
    st.error("You are not logged in any more. Reload the page to log in.", icon=":material/lock:")
    st.stop()
sidebar.draw(PAGES)
with guarded():
    page.run()
