"use strict";
// Draws the charts of a report from the JSON beside it. No data comes from anywhere else, and no text becomes markup.
(() => {
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const coarse = matchMedia("(pointer: coarse)").matches;
  const PAPER_WIDTH = 700; // pixels between the margins of an A4 page
  const LIGHT = { ink: "#1b1f24", soft: "#5c6670", line: "#e3e7eb", main: "#1f5fa8", other: "#8a949e", up: "#228b57", down: "#c83c3c" };
  const DARK = { ink: "#e4e8ec", soft: "#98a3ad", line: "#2b323a", main: "#6fb1f5", other: "#8a949e", up: "#4cc38a", down: "#f07178" };
  let printing = false;

  const colours = () => (dark.matches && !printing ? DARK : LIGHT);
  const plain = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;");

  const named = (values) => values.map((value) => (typeof value === "string" ? plain(value) : value));

  // How the numbers of an axis read when one is pointed at.
  function format(axis, values) {
    if (axis.form === "share") return ".1%";
    const most = Math.max(...values.filter((v) => typeof v === "number").map(Math.abs), 0);
    return most >= 1000 ? ",.0f" : ",.2f";
  }

  function looks(series, c, across) {
    switch (series.look) {
      case "main": return { mode: "lines", line: { color: c.main, width: 1.6 } };
      case "other": return { mode: "lines", line: { color: c.other, width: 1.3 } };
      case "price": return { mode: "lines", line: { color: c.other, width: 1.2 } };
      case "loss": return { mode: "lines", line: { color: c.down, width: 1 }, fill: "tozeroy", fillcolor: c.down + "33" };
      case "buy": return { mode: "markers", marker: { symbol: "triangle-up", size: 8, color: c.up } };
      case "sell": return { mode: "markers", marker: { symbol: "triangle-down", size: 8, color: c.down } };
      case "bars": return across
        ? { type: "bar", orientation: "h", marker: { color: series.x.map((v) => (v < 0 ? c.down : c.up)) } }
        : { type: "bar", marker: { color: c.main } };
      case "chosen": return { mode: "markers", marker: { symbol: "star", size: 13, color: "#fff", line: { color: "#000", width: 1.2 } } };
      case "plateau": return { mode: "markers", marker: { symbol: "circle", size: 7, color: "#fff", line: { color: "#000", width: 1 } } };
      case "spike": return { mode: "markers", marker: { symbol: "x", size: 7, color: "#fff", line: { color: "#000", width: 1 } } };
    }
    throw new Error(`no such look: ${series.look}`);
  }

  function trace(series, chart, c) {
    const across = chart.y.form === "category";
    const value = across ? `%{x:${format(chart.x, series.x)}}` : `%{y:${format(chart.y, series.y)}}`;
    const told = series.told.length > 0;
    const name = plain(series.name);
    const full = ["buy", "sell"].includes(series.look);
    return {
      type: "scatter", x: named(series.x), y: named(series.y), name, hoverlabel: { namelength: -1 },
      customdata: told ? series.told.map(plain) : undefined,
      hovertemplate: (told ? (full ? "%{customdata}" : `%{customdata}<br>${value}`) : value) + (full ? "<extra></extra>" : `<extra>${name}</extra>`),
      ...looks(series, c, across),
    };
  }

  function axis(of, c, values) {
    const made = {
      title: of.title ? { text: plain(of.title), standoff: 6 } : undefined, automargin: true, gridcolor: c.line, linecolor: c.line,
      zerolinecolor: c.soft, zerolinewidth: 1, tickcolor: c.line, fixedrange: coarse,
    };
    if (of.form === "date") return { ...made, type: "date" };
    if (of.form === "category") return { ...made, type: "category" };
    if (of.form === "share") return { ...made, type: "linear", tickformat: ".0%" };
    if (of.form === "log") return { ...made, type: "log", tickformat: "~s", tickmode: "array", tickvals: rungs(values) };
    return of.at.length
      ? { ...made, type: "linear", tickvals: of.at, ticktext: of.texts, zeroline: false }
      : { ...made, type: "linear", tickformat: Math.max(...values.map(Math.abs), 0) >= 10000 ? "~s" : "" };
  }

  // Round numbers within the values, at least three if there are some: every decade, or finer within it.
  function rungs(values) {
    const known = values.filter((v) => v > 0);
    const low = Math.min(...known), high = Math.max(...known);
    let found = [];
    for (const parts of [[1], [1, 2, 5], [1, 1.5, 2, 3, 5, 7], [1, 1.1, 1.2, 1.3, 1.4, 1.6, 1.8, 2, 2.5, 3, 4, 5, 6, 7, 8, 9]]) {
      found = [];
      for (let decade = Math.floor(Math.log10(low)); decade <= Math.log10(high); decade++)
        for (const part of parts) found.push(Number((part * 10 ** decade).toPrecision(3)));
      found = found.filter((v) => v >= low && v <= high);
      if (found.length >= 3) break;
    }
    return found;
  }

  function layout(chart, c, x, y) {
    const shown = chart.form === "heat" ? chart.marks : chart.series;
    return {
      height: chart.height, width: printing ? PAPER_WIDTH : undefined, autosize: !printing,
      margin: { l: 46, r: 10, t: shown.length > 1 ? 26 : 8, b: 28 },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: "system-ui, -apple-system, 'Segoe UI', Roboto, Arial, sans-serif", size: 11, color: c.ink },
      showlegend: shown.length > 1, legend: { orientation: "h", x: 0, y: 1.01, yanchor: "bottom", font: { size: 11 } },
      hovermode: chart.form === "heat" || chart.x.form !== "date" || chart.choice ? "closest" : "x unified",
      dragmode: coarse ? false : "zoom", bargap: 0.15,
      xaxis: axis(chart.x, c, x), yaxis: axis(chart.y, c, y),
    };
  }

  function lines(chart, c) {
    const numbers = (side) => chart.series.flatMap((s) => s[side]).filter((v) => typeof v === "number");
    const drawn = layout(chart, c, numbers("x"), numbers("y"));
    return [chart.series.map((series) => trace(series, chart, c)), drawn];
  }

  function heat(chart, c) {
    const columns = chart.columns.map(plain), rows = chart.rows.map(plain);
    const surface = {
      type: "heatmap", x: columns, y: rows, z: chart.z, colorscale: "Viridis", hoverongaps: false, showlegend: false,
      customdata: chart.told.map((row) => row.map(plain)), colorbar: { thickness: 10, outlinewidth: 0, len: 1 },
      hovertemplate: `${plain(chart.x.title)} %{x}, ${plain(chart.y.title)} %{y}<br>%{customdata}<extra></extra>`,
    };
    const marks = chart.marks.map((mark) => ({ type: "scatter", x: named(mark.x), y: named(mark.y), name: plain(mark.name), hoverinfo: "skip", ...looks(mark, c) }));
    const drawn = layout(chart, c, [], []);
    drawn.xaxis.categoryarray = columns;
    drawn.yaxis.categoryarray = rows;
    drawn.xaxis.showgrid = drawn.yaxis.showgrid = false;
    return [[surface, ...marks], drawn];
  }

  function draw(entry) {
    const chart = entry.choices[entry.picked || 0];
    const [traces, drawn] = chart.form === "heat" ? heat(chart, colours()) : lines(chart, colours());
    return Plotly.react(entry.id, traces, drawn, { displayModeBar: false, responsive: true, doubleClick: "reset" });
  }

  function pick(event) {
    const entry = charts.find((each) => each.id === event.target.dataset.chart);
    const number = entry.id.slice("chart".length);
    entry.picked = Number(event.target.value);
    const chart = entry.choices[entry.picked];
    document.getElementById(`title${number}`).textContent = chart.title;
    document.getElementById(`note${number}`).textContent = chart.note;
    document.getElementById(entry.id).setAttribute("aria-label", chart.said);
    draw(entry);
  }

  function redraw(paper) {
    printing = paper;
    charts.forEach(draw);
  }

  document.querySelectorAll("select[data-chart]").forEach((select) => {
    select.value = "0"; // a page that is loaded again keeps what was picked, and the chart does not
    select.addEventListener("change", pick);
  });
  dark.addEventListener("change", () => redraw(printing));
  addEventListener("beforeprint", () => redraw(true));
  addEventListener("afterprint", () => redraw(false));
  Promise.all(charts.map(draw)).then(() => { document.documentElement.dataset.drawn = String(charts.length); });
})();
