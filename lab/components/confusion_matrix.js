// A confusion matrix as a real grid: every matrix is in the data, so that the slider needs no server.
// All text goes through textContent; colours come from the theme at each draw, so light and dark follow it.

const views = new WeakMap()
const UNITS = [["recall", "Recall, %"], ["precision", "Precision, %"], ["counts", "Counts"]]
const ORDERS = [["look", "Look-alikes"], ["name", "By name"]]

export default function ({ data, parentElement, setStateValue }) {
  let view = views.get(parentElement)
  if (!view) {
    view = new View(parentElement)
    views.set(parentElement, view)
  }
  view.tell = choice => setStateValue("choice", choice)
  view.take(data)
  return () => {
    view.stop()
    views.delete(parentElement)
  }
}

class View {
  constructor(parent) {
    const find = selector => parent.querySelector(selector)
    this.root = find(".matrix")
    this.find = find
    this.unit = "recall"
    this.order = "look"
    this.at = 0
    this.base = ""
    this.focus = [0, 0]
    this.chosen = null
    this.cells = []
    find(".moment").addEventListener("input", event => this.move(Number(event.target.value)))
    find(".moment").addEventListener("change", () => this.say())
    find(".base").addEventListener("change", event => {
      this.base = event.target.value
      this.paint()
    })
    const table = find("table")
    table.addEventListener("click", event => this.choose(this.placeOf(event.target)))
    table.addEventListener("keydown", event => this.key(event))
    table.addEventListener("mouseover", event => this.point(this.placeOf(event.target)))
    table.addEventListener("mouseleave", () => this.point(null))
    table.addEventListener("focusin", event => this.point(this.placeOf(event.target)))
    this.radios(".units", UNITS, () => this.unit, name => { this.unit = name })
    this.radios(".orders", ORDERS, () => this.order, name => { this.order = name; this.build() })
    // The theme may change without new data: paint again when its colours do.
    this.look = ""
    this.watch = window.setInterval(() => {
      const look = getComputedStyle(this.root).getPropertyValue("--st-background-color")
      if (look !== this.look && this.data) this.paint()
    }, 1000)
  }

  stop() { window.clearInterval(this.watch) }

  take(data) {
    const before = this.data
    const atEnd = !before || this.at === before.matrices.length - 1
    const key = before && before.matrices[this.at] ? before.matrices[this.at].key : null
    this.data = data
    const same = data.matrices.findIndex(matrix => matrix.key === key)
    const started = data.matrices.findIndex(matrix => matrix.key === data.start)
    if (!before) this.at = started >= 0 ? started : data.matrices.length - 1
    else this.at = atEnd || same < 0 ? data.matrices.length - 1 : same
    if (!before) this.chosen = data.chosen
    if (!before && data.base) this.base = data.base
    const slider = this.find(".moment")
    slider.max = String(data.matrices.length - 1)
    slider.value = String(this.at)
    slider.hidden = data.matrices.length < 2
    this.find(".after-name").textContent = data.slider
    const select = this.find(".base")
    if (!data.matrices.some(matrix => matrix.key === this.base)) this.base = ""
    const none = option("", "nothing")
    select.replaceChildren(none, ...data.matrices.map(matrix => option(matrix.key, matrix.label)))
    select.value = this.base
    this.find(".against").hidden = data.matrices.length < 2
    if (!before || JSON.stringify(before.names) !== JSON.stringify(data.names)
        || JSON.stringify(before.look) !== JSON.stringify(data.look)) this.build()
    this.paint()
  }

  // --- controls ---

  radios(selector, choices, current, set) {
    const group = this.find(selector)
    const buttons = choices.map(([name, label]) => {
      const button = document.createElement("button")
      button.type = "button"
      button.setAttribute("role", "radio")
      button.textContent = label
      button.addEventListener("click", () => { set(name); refresh(); this.paint() })
      button.addEventListener("keydown", event => {
        const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key]
        if (!step) return
        event.preventDefault()
        const next = buttons[(buttons.indexOf(button) + step + buttons.length) % buttons.length]
        next.focus()
        next.click()
      })
      return button
    })
    const refresh = () => buttons.forEach((button, index) => {
      const on = choices[index][0] === current()
      button.setAttribute("aria-checked", String(on))
      button.tabIndex = on ? 0 : -1
    })
    group.replaceChildren(...buttons)
    refresh()
  }

  move(index) {
    this.at = index
    this.paint()
  }

  say() {
    const matrix = this.data.matrices[this.at]
    this.tell({ matrix: matrix.key, true: this.chosen ? this.chosen[0] : null, heard: this.chosen ? this.chosen[1] : null })
  }

  choose(place) {
    if (!place) return
    const [row, column] = place
    const cell = [this.rank()[row], this.rank()[column]]
    const again = this.chosen && this.chosen[0] === cell[0] && this.chosen[1] === cell[1]
    this.chosen = again ? null : cell
    this.hold(row, column)
    this.paint()
    this.say()
  }

  key(event) {
    const [row, column] = this.focus
    const last = this.data.names.length - 1
    const far = event.ctrlKey || event.metaKey
    const steps = {
      ArrowUp: [row - 1, column], ArrowDown: [row + 1, column], ArrowLeft: [row, column - 1], ArrowRight: [row, column + 1],
      Home: [far ? 0 : row, 0], End: [far ? last : row, last], PageUp: [0, column], PageDown: [last, column],
    }
    if (event.key === "Enter" || event.key === " ") this.choose(this.focus)
    else if (steps[event.key]) {
      const [r, c] = steps[event.key].map(value => Math.min(Math.max(value, 0), last))
      this.hold(r, c)
      this.cells[r][c].focus()
      this.cells[r][c].scrollIntoView({ block: "nearest", inline: "nearest" })
    } else return
    event.preventDefault()
  }

  hold(row, column) {
    this.cells[this.focus[0]][this.focus[1]].tabIndex = -1
    this.focus = [row, column]
    this.cells[row][column].tabIndex = 0
  }

  placeOf(target) {
    const cell = target.closest ? target.closest("td") : null
    return cell ? [Number(cell.dataset.row), Number(cell.dataset.column)] : null
  }

  point(place) {
    for (const header of this.root.querySelectorAll("th.here")) header.classList.remove("here")
    const shown = place || null
    this.find(".readout").textContent = shown
      ? this.cells[shown[0]][shown[1]].getAttribute("aria-label")
      : "Choose a cell to list its recordings: click, or Enter on the keyboard."
    if (!shown) return
    this.rows[shown[0]].classList.add("here")
    this.columns[shown[1]].classList.add("here")
  }

  rank() {
    return this.order === "look" ? this.data.look : this.data.byName
  }

  // --- drawing ---

  build() {
    const names = this.data.names
    const rank = this.rank()
    const size = names.length <= 10 ? "few" : names.length <= 20 ? "" : "many"
    this.root.className = ("matrix " + size).trim()
    const head = document.createElement("tr")
    const corner = document.createElement("th")
    corner.className = "corner"
    corner.append(line("played ↓"), line("heard →"))
    head.append(corner)
    this.columns = rank.map(index => {
      const header = document.createElement("th")
      header.scope = "col"
      const label = document.createElement("span")
      label.textContent = names[index]
      label.title = names[index]
      header.append(label)
      head.append(header)
      return header
    })
    this.rows = []
    this.cells = rank.map((_, row) => rank.map((_, column) => {
      const cell = document.createElement("td")
      cell.setAttribute("role", "gridcell")
      cell.tabIndex = -1
      cell.dataset.row = String(row)
      cell.dataset.column = String(column)
      return cell
    }))
    const lines = rank.map((index, row) => {
      const tr = document.createElement("tr")
      const header = document.createElement("th")
      header.scope = "row"
      const label = document.createElement("span")
      label.textContent = names[index]
      label.title = names[index]
      header.append(label, document.createElement("small"))
      this.rows.push(header)
      tr.append(header, ...this.cells[row])
      return tr
    })
    const head_ = this.find("thead")
    head_.replaceChildren(head)
    this.find("tbody").replaceChildren(...lines)
    this.focus = [0, 0]
    if (this.cells.length) this.cells[0][0].tabIndex = 0
  }

  paint() {
    const { matrices, names } = this.data
    const matrix = matrices[this.at]
    const base = matrices.find(other => other.key === this.base) || null
    const colours = this.colours()
    const now = measured(matrix.counts)
    const then = base ? measured(base.counts) : null
    const rank = this.rank()
    const reach = then ? this.reach(now, then) : Math.max(1, ...now.counts.flat())
    rank.forEach((true_, row) => {
      this.rows[row].lastChild.textContent = `n=${now.rows[true_]}`
      rank.forEach((heard, column) => {
        const cell = this.cells[row][column]
        const value = now[this.unit][true_][heard]
        const was = then ? then[this.unit][true_][heard] : null
        const strength = then ? signed(value, was) / reach : this.unit === "counts" ? (value || 0) / reach : value || 0
        const colour = !strength ? colours.empty : then ? diverging(colours, strength) : along(colours.steps, strength)
        cell.style.background = css(colour)
        cell.style.color = luminance(colour) > 0.179 ? "#000" : "#fff"
        cell.textContent = then ? difference(value, was, this.unit) : written(value, this.unit, now.counts[true_][heard])
        cell.classList.toggle("right", true_ === heard)
        const picked = this.chosen !== null && this.chosen[0] === true_ && this.chosen[1] === heard
        cell.setAttribute("aria-selected", String(picked))
        cell.setAttribute("aria-label", inWords(names, true_, heard, now, this.unit, then, base))
      })
    })
    this.find(".moment-name").textContent = matrix.label
    this.find(".moment").setAttribute("aria-valuetext", matrix.label)
    this.find("table").setAttribute("aria-label", `Confusion matrix, ${matrix.label}: rows are who played, columns who was heard`)
    this.find(".sum").textContent = summary(matrix, now, then, base)
    this.point(null)
    this.scale(colours, then, reach)
  }

  reach(now, then) {
    let most = this.unit === "counts" ? 1 : 0.25
    now.counts.forEach((row, r) => row.forEach((_, c) => {
      most = Math.max(most, Math.abs(signed(now[this.unit][r][c], then[this.unit][r][c])))
    }))
    return most
  }

  scale(colours, then, reach) {
    const stops = [0, 0.25, 0.5, 0.75, 1].map(share => css(then ? diverging(colours, 2 * share - 1) : along(colours.steps, share)))
    this.find(".scale i").style.background = `linear-gradient(90deg, ${stops.join(", ")})`
    const most = this.unit === "counts" ? String(reach) : then ? `${Math.round(100 * reach)} points` : "100 %"
    this.find(".low").textContent = then ? `${most} fewer` : this.unit === "counts" ? "0" : "0 %"
    this.find(".high").textContent = then ? `${most} more` : most
  }

  colours() {
    const style = getComputedStyle(this.root)
    this.look = style.getPropertyValue("--st-background-color")
    const list = name => style.getPropertyValue(name).split(",").map(parse).filter(Boolean)
    const paper = parse(this.look) || [255, 255, 255]
    const steps = list("--st-chart-sequential-colors")
    const sides = list("--st-chart-diverging-colors")
    return {
      paper,
      steps: steps.length > 1 ? steps : [paper, [20, 98, 107]],
      empty: mix(paper, parse(style.getPropertyValue("--st-text-color")) || [0, 0, 0], 0.035),
      sides: sides.length > 3 ? [...sides.slice(0, sides.length / 2), paper, ...sides.slice(sides.length / 2)] : [[122, 53, 0], paper, [11, 63, 102]],
    }
  }
}

// --- figures ---

function measured(counts) {
  const rows = counts.map(row => row.reduce((sum, n) => sum + n, 0))
  const columns = counts.map((_, c) => counts.reduce((sum, row) => sum + row[c], 0))
  return {
    counts,
    rows,
    columns,
    recall: counts.map((row, r) => row.map(n => (rows[r] ? n / rows[r] : null))),
    precision: counts.map(row => row.map((n, c) => (columns[c] ? n / columns[c] : null))),
    right: counts.reduce((sum, row, r) => sum + row[r], 0),
    total: rows.reduce((sum, n) => sum + n, 0),
  }
}

function signed(value, was) {
  return (value || 0) - (was || 0)
}

function written(value, unit, n) {
  if (!n) return ""
  return unit === "counts" ? String(n) : String(Math.round(100 * value))
}

function difference(value, was, unit) {
  const by = unit === "counts" ? signed(value, was) : Math.round(100 * signed(value, was))
  return by === 0 ? "" : (by > 0 ? "+" : "−") + Math.abs(by)
}

function recordings(n) {
  return n === 1 ? "1 recording" : `${n} recordings`
}

function inWords(names, true_, heard, now, unit, then, base) {
  const n = now.counts[true_][heard]
  const who = true_ === heard ? `${names[true_]} recognised` : `${names[true_]} heard as ${names[heard]}`
  let words
  if (unit === "precision") {
    const share = now.columns[heard] ? `, ${Math.round((100 * n) / now.columns[heard])} %` : ""
    words = `${who}: ${n} of the ${now.columns[heard]} times that ${names[heard]} was named${share}`
  } else {
    const share = now.rows[true_] ? `, ${Math.round((100 * n) / now.rows[true_])} %` : ""
    words = `${who}: ${n} of ${recordings(now.rows[true_])}${share}`
  }
  return then ? `${words}; ${then.counts[true_][heard]} in ${base.label}` : words
}

function summary(matrix, now, then, base) {
  const share = now.total ? ` (${((100 * now.right) / now.total).toFixed(1)} %)` : ""
  const between = matrix.between ? `; 95 % interval ${matrix.between}` : ""
  const words = `${now.right} of ${now.total} recordings of the ${matrix.part} part are right${share.replace(")", between + ")")}.`
  if (!then) return words
  const by = now.right - then.right
  const more = by === 0 ? "as many as" : `${Math.abs(by)} ${by > 0 ? "more" : "fewer"} than`
  return `${words} That is ${more} in ${base.label}; cells show what changed.`
}

// --- colours ---

function parse(text) {
  const hex = /^\s*#([0-9a-f]{6})/i.exec(text)
  if (hex) return [0, 2, 4].map(at => parseInt(hex[1].slice(at, at + 2), 16))
  const rgb = /rgba?\((\d+)[ ,]+(\d+)[ ,]+(\d+)/.exec(text)
  return rgb ? rgb.slice(1, 4).map(Number) : null
}

function mix(a, b, share) {
  return a.map((value, index) => value + (b[index] - value) * share)
}

function along(steps, share) {
  const place = Math.min(Math.max(share, 0), 1) * (steps.length - 1)
  const below = Math.min(Math.floor(place), steps.length - 2)
  return mix(steps[below], steps[below + 1], place - below)
}

function diverging(colours, share) {
  return along(colours.sides, (share + 1) / 2)
}

function css(colour) {
  return `rgb(${colour.map(Math.round).join(" ")})`
}

function luminance(colour) {
  const [r, g, b] = colour.map(value => {
    const c = value / 255
    return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4
  })
  return 0.2126 * r + 0.7152 * g + 0.0722 * b
}

function option(value, label) {
  const element = document.createElement("option")
  element.value = value
  element.textContent = label
  return element
}

function line(text) {
  const element = document.createElement("div")
  element.textContent = text
  return element
}
