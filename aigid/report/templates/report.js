"use strict";
(() => {
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  // Plotly reads markup in texts; names are no markup.
  const plain = (text) =>
    String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  // Names often differ at their ends only.
  const short = (text, most) => {
    const kept = Math.floor((most - 1) / 2);
    return text.length > most ? `${text.slice(0, kept)}…${text.slice(-kept)}` : text;
  };
  const number = new Intl.NumberFormat("en-US");

  function colour(name) {
    const known = ["ai", "real", "unsure", "camera", "edited", "neutral", "ink", "muted", "line"];
    const variable = known.includes(name) ? name : "unsure";
    return getComputedStyle(document.documentElement).getPropertyValue(`--${variable}`).trim();
  }

  function axis(title) {
    return {
      title: { text: plain(title), font: { size: 12 }, standoff: 8 },
      gridcolor: colour("line"),
      linecolor: colour("line"),
      zeroline: false,
      automargin: true,
      fixedrange: true,
    };
  }

  function layout(height) {
    const family = getComputedStyle(document.body).fontFamily;
    return {
      height,
      autosize: true,
      margin: { l: 8, r: 12, t: 22, b: 8 },
      font: { family, size: 12, color: colour("muted") },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      showlegend: false,
      dragmode: false,
      bargap: 0.08,
      separators: ".,",
      hoverlabel: { font: { family, size: 12 } },
    };
  }

  function lines(spec) {
    const shapes = spec.lines.map((line) => ({
      type: "line", xref: "x", yref: "paper", x0: line.at, x1: line.at, y0: 0, y1: 1,
      line: { color: colour("ink"), width: 1, dash: "dot" },
    }));
    const annotations = spec.lines.map((line, index) => ({
      x: line.at, y: 1, xref: "x", yref: "paper", text: plain(line.text), showarrow: false,
      xanchor: line.at > 0.7 || index > 0 ? "right" : "left", yanchor: "bottom",
      font: { color: colour("ink"), size: 12 },
    }));
    return { shapes, annotations };
  }

  function wholeTicks(values) {
    const few = Math.max(...values) < 6;
    return { tickformat: ",d", nticks: 6, ...(few ? { dtick: 1 } : {}) };
  }

  function histogram(spec) {
    const text = spec.y.map((rows, bin) => `${spec.labels[bin]}<br>${number.format(rows)} rows`);
    const trace = {
      type: "bar", x: spec.x, y: spec.y, width: 1 / spec.x.length, text, textposition: "none",
      hoverinfo: "text", marker: { color: spec.colours.map(colour), line: { width: 0 } },
    };
    const x = { ...axis(spec.x_title), range: [0, 1], showgrid: false, dtick: 0.1 };
    const y = { ...axis(spec.y_title), rangemode: "tozero", ...wholeTicks(spec.y) };
    return [[trace], { ...layout(280), ...lines(spec), bargap: 0, xaxis: x, yaxis: y }];
  }

  function names(spec, width) {
    const isNarrow = width < 500;
    const most = isNarrow ? 16 : 44;
    const places = spec.names.map((_, place) => place);
    const texts = (isNarrow && spec.narrow) || spec.names;
    const ticktext = texts.map((name) => plain(short(name, most)));
    return {
      ...axis(""), autorange: "reversed", tickmode: "array", tickvals: places, ticktext,
      showgrid: false, ticks: "", range: [spec.names.length - 0.5, -0.5],
    };
  }

  function bars(spec, width) {
    const rows = spec.x.map((value) => number.format(value));
    const trace = {
      type: "bar", orientation: "h", x: spec.x, y: spec.names.map((_, place) => place),
      text: rows, textposition: "outside", cliponaxis: false,
      hovertext: spec.names.map((name, place) => `${plain(name)}<br>${rows[place]} rows`),
      hoverinfo: "text", marker: { color: spec.colours.map(colour) },
      textfont: { color: colour("ink") },
    };
    const most = Math.max(1, ...spec.x);
    const x = { ...axis(spec.x_title), range: [0, most * 1.15], ...wholeTicks(spec.x) };
    const height = 64 + 26 * spec.names.length;
    return [[trace], { ...layout(height), bargap: 0.3, xaxis: x, yaxis: names(spec, width) }];
  }

  function shareRange(spec) {
    const low = Math.min(...spec.low, spec.lines[0].at);
    const high = Math.max(...spec.high, spec.lines[0].at);
    const room = 0.03 * Math.max(high - low, 0.01);
    return [low - room, high + room];
  }

  function shares(spec, width) {
    const percent = (share) => `${(100 * share).toFixed(1)} %`;
    const trace = {
      type: "scatter", mode: "markers", x: spec.x, y: spec.names.map((_, place) => place),
      error_x: {
        type: "data", symmetric: false, thickness: 1.5, width: 3, color: colour("muted"),
        array: spec.x.map((share, place) => Math.max(0, spec.high[place] - share)),
        arrayminus: spec.x.map((share, place) => Math.max(0, share - spec.low[place])),
      },
      hovertext: spec.names.map((name, place) =>
        `${plain(name)}<br>${percent(spec.x[place])} (${percent(spec.low[place])} to ${percent(spec.high[place])})`),
      hoverinfo: "text", marker: { size: 9, color: spec.colours.map(colour) },
    };
    const x = { ...axis(spec.x_title), tickformat: ".0%", range: shareRange(spec), nticks: 6 };
    const height = 90 + 24 * spec.names.length;
    return [[trace], { ...layout(height), ...lines(spec), xaxis: x, yaxis: names(spec, width) }];
  }

  const makers = { histogram, bars, shares };

  function draw() {
    for (const place of document.querySelectorAll("[data-chart]")) {
      const spec = charts[place.dataset.chart];
      const [traces, look] = makers[spec.kind](spec, place.clientWidth);
      // Without a height of its own, Plotly would fit the chart into what it finds.
      place.style.height = `${look.height}px`;
      Plotly.react(place, traces, look, { displayModeBar: false, responsive: true });
    }
  }

  function show(card, open) {
    card.classList.toggle("open", open);
    card.classList.toggle("shut", !open);
    card.querySelector(".face").setAttribute("aria-expanded", String(open));
  }

  function prepare(card) {
    const face = card.querySelector(".face");
    const place = () => {
      const panel = 352;
      const { left } = card.getBoundingClientRect();
      card.classList.toggle("right", left + panel > document.documentElement.clientWidth);
    };
    let wasOpen = false;
    card.addEventListener("pointerenter", () => { place(); card.classList.remove("shut"); });
    card.addEventListener("pointerleave", () => card.classList.remove("shut"));
    face.addEventListener("pointerdown", () => { wasOpen = card.classList.contains("open"); });
    face.addEventListener("focus", () => { place(); show(card, true); });
    face.addEventListener("click", (event) => {
      place();
      const open = event.detail ? wasOpen : card.classList.contains("open");
      show(card, !open);
    });
    card.addEventListener("focusout", (event) => {
      if (!card.contains(event.relatedTarget)) {
        show(card, false);
        card.classList.remove("shut");
      }
    });
  }

  draw();
  dark.addEventListener("change", draw);
  addEventListener("beforeprint", draw);
  addEventListener("afterprint", draw);
  document.querySelectorAll(".card").forEach(prepare);
  addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      for (const card of document.querySelectorAll(".card:hover, .card:focus-within, .card.open")) {
        show(card, false);
      }
    }
  });
})();
