// Draws every figure.chart with uPlot: data from its own JSON, or from the address in data-src.
"use strict";
(() => {
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const color = (index) => css(`--series-${index % 8}`);
  function short(value) {
    if (value == null) return "–";
    const size = Math.abs(value);
    if (size && (size < 1e-3 || size >= 1e6)) return value.toExponential(2).replace(/\.?0+e/, "e").replace("e+", "e");
    return size >= 1e4 ? `${+(value / 1000).toPrecision(4)}k` : String(+value.toPrecision(4));
  }

  // Exponential moving average, corrected for its start; gaps stay gaps.
  function smooth(values, weight) {
    if (!weight) return values;
    let sum = 0, count = 0;
    return values.map((value) => {
      if (value == null) return null;
      sum = sum * weight + value * (1 - weight);
      count = count * weight + (1 - weight);
      return sum / count;
    });
  }

  function columns(data, weight, log) {
    const positive = (values) => (log ? values.map((value) => (value > 0 ? value : null)) : values);
    const made = [data.x];
    for (const series of data.series) {
      made.push(positive(smooth(series.y, weight)));
      if (series.low) made.push(positive(smooth(series.low, weight)), positive(smooth(series.high, weight)));
    }
    return made;
  }

  function options(data, width, log) {
    const series = [{ label: "step" }], bands = [];
    data.series.forEach((one, index) => {
      const stroke = color(index);
      series.push({ label: one.label, stroke, width: 1.6, spanGaps: true, points: { show: false } });
      if (one.low) {
        const at = series.length, hidden = { width: 0, stroke: "transparent", spanGaps: true, points: { show: false } };
        series.push({ label: "low", ...hidden }, { label: "high", ...hidden });
        bands.push({ series: [at + 1, at], fill: stroke + "26" });
      }
    });
    const axis = { stroke: css("--muted"), grid: { stroke: css("--line"), width: 1 }, ticks: { stroke: css("--line"), width: 1 }, font: "11px system-ui, sans-serif" };
    const numbers = (_, splits) => splits.map((value) => (value == null ? "" : short(value)));
    return {
      width, height: 220, series, bands, legend: { show: false }, cursor: { y: false, points: { size: 6 } },
      scales: { x: { time: false }, y: log ? { distr: 3 } : {} },
      axes: [{ ...axis, values: numbers }, { ...axis, size: 58, values: numbers }],
    };
  }

  class Chart {
    constructor(figure) {
      this.figure = figure;
      this.plot = figure.querySelector(".plot");
      this.legend = figure.querySelector(".legend");
      new ResizeObserver(() => this.resize()).observe(this.plot);
    }

    async load(fetched) {
      const inline = this.figure.querySelector("script[type='application/json']");
      if (inline) return this.data || this.show(JSON.parse(inline.textContent));
      const { src, key } = this.figure.dataset;
      try {
        if (!fetched.has(src)) fetched.set(src, fetch(src, { cache: "no-cache" }).then((answer) => (answer.ok ? answer.json() : {})));
        const data = (await fetched.get(src))[key], text = JSON.stringify(data);
        if (!data || text === this.text) return;
        this.text = text;
        this.show(data);
      } catch {
        if (!this.data) this.plot.textContent = "The curve could not be loaded.";
      }
    }

    show(data) {
      this.data = data;
      this.draw();
    }

    draw() {
      if (!this.data) return;
      const hidden = new Set([...this.legend.querySelectorAll("[aria-pressed=false]")].map((one) => +one.dataset.index));
      const log = document.getElementById("log-scale")?.checked ?? false;
      const weight = +(document.getElementById("smoothing")?.value ?? 0);
      this.chart?.destroy();
      this.chart = null;
      this.plot.textContent = "";
      this.figure.classList.toggle("single", this.data.x.length < 2); // one step: the values beside the names say it all
      if (this.data.x.length < 2) return this.entries(hidden);
      this.chart = new uPlot(options(this.data, this.plot.clientWidth || 320, log), columns(this.data, weight, log), this.plot);
      this.describe();
      this.entries(hidden);
      hidden.forEach((index) => this.toggle(index, false));
    }

    // What a screen reader says instead of the picture.
    describe() {
      const ends = this.data.series.slice(0, 12).map((one) => `${one.label} ends at ${short(last(one.y))}`);
      this.plot.setAttribute("role", "img");
      this.plot.setAttribute("aria-label", `${this.figure.dataset.title} by step. ${ends.join("; ")}.`);
    }

    entries(hidden) {
      this.legend.replaceChildren(...this.data.series.map((one, index) => {
        const item = document.createElement("li"), button = document.createElement("button");
        const key = document.createElement("span"), name = document.createElement("span"), end = document.createElement("span");
        button.type = "button";
        button.dataset.index = index;
        button.setAttribute("aria-pressed", String(!hidden.has(index)));
        button.title = `Show or hide ${one.label}`;
        key.className = "key";
        key.style.background = color(index);
        name.className = "label";
        name.textContent = one.label;
        end.className = "end";
        end.textContent = short(last(one.y));
        button.append(key, name, end);
        button.addEventListener("click", () => {
          const shown = button.getAttribute("aria-pressed") !== "true";
          button.setAttribute("aria-pressed", String(shown));
          this.toggle(index, shown);
        });
        item.append(button);
        return item;
      }));
    }

    toggle(index, shown) {
      let at = 1;
      for (let before = 0; before < index; before++) at += this.data.series[before].low ? 3 : 1;
      const width = this.data.series[index].low ? 3 : 1;
      for (let offset = 0; offset < width; offset++) this.chart?.setSeries(at + offset, { show: shown });
    }

    resize() {
      const width = this.plot.clientWidth;
      if (this.chart && width && width !== this.chart.width) this.chart.setSize({ width, height: 220 });
    }
  }

  function last(values) {
    for (let at = values.length - 1; at >= 0; at--) if (values[at] != null) return values[at];
    return null;
  }

  const charts = new Map();
  const redraw = () => charts.forEach((chart) => chart.draw());

  // Finds figures that are new and asks for the data of all again, once for each address.
  window.loadCharts = () => {
    for (const figure of document.querySelectorAll("figure.chart")) if (!charts.has(figure)) charts.set(figure, new Chart(figure));
    for (const figure of charts.keys()) if (!figure.isConnected) charts.delete(figure);
    document.querySelectorAll("[data-chart-tools]").forEach((tools) => (tools.hidden = false));
    const fetched = new Map();
    return Promise.all([...charts.values()].map((chart) => chart.load(fetched)));
  };
  document.addEventListener("input", (event) => ["smoothing", "log-scale"].includes(event.target.id) && redraw());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  loadCharts();
})();
