"""The look of a report: paper and ink as in the lab, light and dark by the reader's own setting, and good in print."""

CONCEPT_COLOURS = ("var(--melody)", "var(--harmony)", "var(--rhythm)", "var(--dynamics)")
# The pianists of a timeline, the likeliest first, where the caller names no colours of their own.
RANK_COLOURS = ("var(--rank0)", "var(--rank1)", "var(--rank2)", "var(--rank3)", "var(--rank4)")
FOR = "var(--for4)"
AGAINST = "var(--against4)"
ACCENT = "var(--accent)"

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fbf8f2; --card: #f2ece0; --ink: #171410; --soft: #5f584c; --line: #ddd3c1; --accent: #14626b;
  --warn: #b3650b; --warn-paper: #fbeedb; --note: #3e8891;
  --melody: #0072b2; --harmony: #d55e00; --rhythm: #009e73; --dynamics: #b85c93;
  --rank0: #14626b; --rank1: #d55e00; --rank2: #4884fc; --rank3: #b85c93; --rank4: #904800;
  --for1: #83b1ce; --for2: #3a86b8; --for3: #22628f; --for4: #0b3f66;
  --against1: #e0a476; --against2: #d0702a; --against3: #a55215; --against4: #7a3500; --zero: #b5a993;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #191714; --card: #24211c; --ink: #ece5d8; --soft: #b8ae9f; --line: #3d372e; --accent: #6cc0c9;
    --warn: #e39a45; --warn-paper: #33271a; --note: #559ca4;
    --melody: #4ba3dc; --harmony: #ee8a3c; --rhythm: #2bbd94; --dynamics: #d98fb9;
    --rank0: #6cc0c9; --rank1: #ee8a3c; --rank2: #0084f0; --rank3: #d98fb9; --rank4: #ccb478;
    --for1: #316181; --for2: #3f8fc4; --for3: #72b1db; --for4: #a5d3f2;
    --against1: #86512c; --against2: #c8743a; --against3: #de9662; --against4: #f3b98a; --zero: #6b6354;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 56rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", "Noto Sans", sans-serif; overflow-wrap: anywhere;
}
h1, h2 { font-family: Georgia, "Times New Roman", "Noto Serif", serif; line-height: 1.2; font-weight: 600; }
h1 { font-size: clamp(2rem, 7vw, 3.2rem); margin: 0.1rem 0 0.4rem; }
h2 { font-size: 1.4rem; margin: 0 0 0.7rem; }
h3 { font-size: 0.95rem; margin: 1.2rem 0 0.4rem; font-weight: 600; }
p { margin: 0 0 0.7rem; max-width: 44rem; }
section { margin-top: 2.6rem; }
.eyebrow, .small, .ticks, .legend, caption { color: var(--soft); font-size: 0.86rem; }
.eyebrow { margin: 0; }
.answer {
  padding: 1.6rem 1.5rem 1.3rem; background: var(--card); border: 1px solid var(--line); border-radius: 0.7rem;
}
.sure { font-size: 1.1rem; margin-bottom: 1.1rem; }
.warn {
  margin: 0.7rem 0 0; padding: 0.6rem 0.9rem; border-left: 4px solid var(--warn); background: var(--warn-paper);
  border-radius: 0 0.4rem 0.4rem 0; max-width: none;
}
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(19rem, 100%), 1fr)); gap: 0 2.2rem; }
.bars { display: grid; gap: 0.35rem; margin-bottom: 0.8rem; }
.line { display: grid; grid-template-columns: minmax(4.5rem, 8.5rem) 1fr 3.9rem; gap: 0.7rem; align-items: center; }
.whole { white-space: nowrap; }
.name { overflow: hidden; text-overflow: ellipsis; }
.value { text-align: right; font-variant-numeric: tabular-nums; color: var(--soft); white-space: nowrap; }
.track {
  position: relative; height: 0.85rem; background: var(--paper); border: 1px solid var(--line); border-radius: 0.2rem;
}
.both::after {
  content: ""; position: absolute; left: 50%; top: -0.2rem; bottom: -0.2rem; border-left: 1px solid var(--soft);
}
.fill { position: absolute; top: 0; bottom: 0; border-radius: 0.1rem; }
svg { display: block; width: 100%; background: var(--card); border: 1px solid var(--line); }
svg.roll { height: 15rem; border-radius: 0.4rem 0.4rem 0 0; }
svg.timeline { height: 5.5rem; border-top: 0; border-radius: 0 0 0.4rem 0.4rem; }
.keys { fill: var(--line); opacity: 0.25; }
.note { fill: var(--note); }
.level0 { fill: var(--zero); }
.level1 { fill: var(--for1); } .level2 { fill: var(--for2); }
.level3 { fill: var(--for3); } .level4 { fill: var(--for4); }
.levelm1 { fill: var(--against1); } .levelm2 { fill: var(--against2); }
.levelm3 { fill: var(--against3); } .levelm4 { fill: var(--against4); }
.ticks { display: flex; justify-content: space-between; margin: 0.25rem 0 0.5rem; font-variant-numeric: tabular-nums; }
.legend { display: flex; flex-wrap: wrap; gap: 0.2rem 1.1rem; max-width: none; }
.legend i { display: inline-block; width: 0.8rem; height: 0.8rem; border-radius: 0.15rem; margin-right: 0.4rem; }
.wide { overflow-x: auto; margin-bottom: 0.8rem; }
table { border-collapse: collapse; width: 100%; font-size: 0.93rem; overflow-wrap: normal; }
td.long { overflow-wrap: anywhere; min-width: 11rem; }
td .bars { min-width: 6rem; margin: 0.3rem 0 0; }
td .line { grid-template-columns: 1fr; }
td .name, td .value { display: none; }
th { text-align: left; font-weight: 600; color: var(--soft); }
th, td { padding: 0.32rem 1rem 0.32rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.dot { display: inline-block; width: 0.62rem; height: 0.62rem; border-radius: 50%; border: 1px solid var(--soft); }
dl { display: grid; grid-template-columns: minmax(6rem, max-content) 1fr; gap: 0.25rem 1.2rem; margin: 0; }
dt { color: var(--soft); } dd { margin: 0; }
footer { margin-top: 3rem; padding-top: 1rem; border-top: 1px solid var(--line); }
@media (max-width: 30rem) {
  body { padding: 1.2rem 0.9rem 3rem; }
  .answer { padding: 1.1rem 1rem; }
  .line { grid-template-columns: minmax(4rem, 6.2rem) 1fr 3.7rem; gap: 0.5rem; font-size: 0.92rem; }
  svg.roll { height: 11rem; }
}
@media print {
  :root { color-scheme: light; }
  body { padding: 0; max-width: none; font-size: 10pt; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  .answer, .line, tr, svg, .warn { break-inside: avoid; }
  h2 { break-after: avoid; }
}
"""
