// Interactive figures of the book: a slider over prepared steps, and points
// that tell their names. Nothing is computed here: marks, ticks and words
// come with the page. No library, no network, no animation.
(() => {
  "use strict";
  const SVG = "http://www.w3.org/2000/svg";
  const EDGE = { right: 14, top: 12, bottom: 44 };
  const TALL = 290;
  const LETTER = 6.6; // pixels of a letter, about
  const NARROW = 560; // pixels; below, panels stand below each other
  const SHAPES = [
    "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0Z",
    "M-3.6,-3.6h7.2v7.2h-7.2Z",
    "M0,-4.8L4.6,3.6H-4.6Z",
    "M0,-5L5,0L0,5L-5,0Z",
    "M-4.8,-3.6H4.8L0,4.8Z",
    "M-1.5,-5h3v3.5h3.5v3h-3.5v3.5h-3v-3.5h-3.5v-3h3.5Z",
  ];

  function add(parent, tag, attributes, text) {
    const node = document.createElementNS(SVG, tag);
    for (const name of Object.keys(attributes)) {
      node.setAttribute(name, attributes[name]);
    }
    if (text !== undefined) node.textContent = text;
    parent.append(node);
    return node;
  }

  const longest = (axis) => {
    const lines = axis.ticks.flatMap(([, text]) => text.split("\n"));
    return LETTER * Math.max(0, ...lines.map((line) => line.length));
  };

  function scale(axis, from, to) {
    const bend = axis.log ? Math.log : (value) => value;
    const low = bend(axis.range[0]);
    const high = bend(axis.range[1]);
    return (value) =>
      from + ((bend(value) - low) / (high - low)) * (to - from);
  }

  // One drawing area with its two axes; marks go into a group of their own.
  class Panel {
    constructor(box, axes, width) {
      const size = { width, height: TALL, viewBox: `0 0 ${width} ${TALL}` };
      const svg = add(box, "svg", size);
      this.width = width;
      this.left = 32 + longest(axes.y);
      const room = width - this.left - EDGE.right;
      // Names that have no room side by side are slanted.
      this.slanted = (longest(axes.x) + 6) * axes.x.ticks.length > room;
      this.bottom = TALL - EDGE.bottom;
      if (this.slanted) this.bottom -= 0.7 * longest(axes.x) - 8;
      this.x = scale(axes.x, this.left, width - EDGE.right);
      this.y = scale(axes.y, this.bottom, EDGE.top);
      this.base = this.y(
        axes.y.log ? axes.y.range[0] : Math.max(0, axes.y.range[0])
      );
      this.horizontal(svg, axes.x);
      this.vertical(svg, axes.y);
      this.marks = add(svg, "g", { class: "lq-marks" });
    }

    horizontal(svg, axis) {
      const y = this.bottom;
      const end = this.width - EDGE.right;
      add(svg, "path", { class: "lq-axis", d: `M${this.left},${y}H${end}` });
      for (const [value, text] of axis.ticks) {
        const x = this.x(value);
        add(svg, "path", { class: "lq-axis", d: `M${x},${y}v4` });
        const place = this.slanted
          ? {
              transform: `translate(${x + 4},${y + 13}) rotate(-45)`,
              "text-anchor": "end",
            }
          : { x, y: y + 17, "text-anchor": "middle" };
        add(svg, "text", place, text);
      }
      const x = (this.left + end) / 2;
      const place = { x, y: TALL - 7, "text-anchor": "middle" };
      add(svg, "text", place, axis.label);
    }

    vertical(svg, axis) {
      const x = this.left;
      const d = `M${x},${this.bottom}V${EDGE.top}`;
      add(svg, "path", { class: "lq-axis", d });
      for (const [value, text] of axis.ticks) {
        const y = this.y(value);
        add(svg, "path", { class: "lq-axis", d: `M${x},${y}h-4` });
        text.split("\n").forEach((line, i, lines) => {
          const down = 4 + 13 * (i - (lines.length - 1) / 2);
          const place = { x: x - 7, y: y + down, "text-anchor": "end" };
          add(svg, "text", place, line);
        });
      }
      const middle = (this.bottom + EDGE.top) / 2;
      const place = {
        transform: `translate(13,${middle}) rotate(-90)`,
        "text-anchor": "middle",
      };
      add(svg, "text", place, axis.label);
    }

    put(tag, layer, attributes) {
      const looks = [`lq-${layer.mark}`, `lq-${layer.tone}`];
      if (layer.dash) looks.push("lq-dash");
      if (layer.faint) looks.push("lq-faint");
      return add(this.marks, tag, { ...attributes, class: looks.join(" ") });
    }

    at(layer, i) {
      const x = this.x(layer.x[i]).toFixed(1);
      return [x, this.y(layer.y[i]).toFixed(1)];
    }

    name(text, x, y, below) {
      const left = x > this.width / 2;
      const place = {
        x: x + (left ? -9 : 9),
        y: y + (below ? 15 : -6),
        class: "lq-name",
        "text-anchor": left ? "end" : "start",
      };
      add(this.marks, "text", place, text);
    }
  }

  const MARKS = {
    line(panel, layer, taken) {
      let path = "";
      let pen = "M";
      for (const i of taken) {
        if (layer.x[i] === null || layer.y[i] === null) {
          pen = "M";
          continue;
        }
        path += pen + panel.at(layer, i).join(",");
        pen = "L";
      }
      panel.put("path", layer, { d: path });
    },
    dots(panel, layer, taken) {
      for (const i of taken) {
        if (layer.y[i] === null) continue;
        const transform = `translate(${panel.at(layer, i).join(",")})`;
        panel.put("path", layer, { d: SHAPES[layer.shape], transform });
      }
    },
    bars(panel, layer, taken) {
      const half = layer.width / 2;
      for (const i of taken) {
        if (layer.y[i] === null) continue;
        const left = panel.x(layer.x[i] - half);
        const y = panel.y(layer.y[i]);
        panel.put("rect", layer, {
          x: left,
          y: Math.min(y, panel.base),
          width: panel.x(layer.x[i] + half) - left,
          height: Math.abs(panel.base - y),
        });
      }
    },
    ticks(panel, layer, taken) {
      for (const i of taken) {
        const [x, y] = panel.at(layer, i);
        panel.put("path", layer, { d: `M${x},${y - 8}v16` });
      }
    },
  };

  function panelsOf(figure, data) {
    const box = figure.querySelector(".lq-panels");
    const room = box.clientWidth || 640;
    const beside = room < NARROW ? 1 : Math.min(2, data.panels.length);
    const width = Math.floor(Math.min(680, room / beside));
    box.textContent = "";
    return data.panels.map((axes) => new Panel(box, axes, width));
  }

  function legend(figure, layers) {
    const list = document.createElement("ul");
    list.className = "lq-legend";
    for (const layer of layers) {
      const item = document.createElement("li");
      const look = { width: 24, height: 14, viewBox: "0 0 24 14" };
      const svg = add(item, "svg", { ...look, "aria-hidden": "true" });
      const key = { marks: svg, put: Panel.prototype.put };
      if (layer.mark === "dots") {
        const d = SHAPES[layer.shape];
        key.put("path", layer, { d, transform: "translate(12,7)" });
      } else if (layer.mark === "bars") {
        key.put("rect", layer, { x: 4, y: 2, width: 16, height: 10 });
      } else {
        const d = layer.mark === "ticks" ? "M12,1v12" : "M1,7h22";
        key.put("path", layer, { d });
      }
      item.append(layer.name);
      list.append(item);
    }
    if (layers.length) figure.querySelector(".lq-panels").after(list);
  }

  // A slider: each layer is there always, up to the step, or at one step.
  function steps(figure, data) {
    const slider = figure.querySelector("input[type=range]");
    const named = figure.querySelector("output");
    const words = figure.querySelector(".lq-words");
    let panels = [];
    const draw = () => {
      const step = Number(slider.value);
      panels.forEach((panel) => (panel.marks.textContent = ""));
      for (const layer of data.layers) {
        const all = layer.x.map((_, i) => i);
        const seen = {
          always: all,
          grow: all.slice(0, step + 1),
          now: all.slice(step, step + 1),
        };
        const taken = seen[layer.when] || (layer.when === step ? all : []);
        MARKS[layer.mark](panels[layer.panel], layer, taken);
      }
    };
    const tell = () => {
      const { label, words: text } = data.frames[Number(slider.value)];
      named.textContent = label;
      slider.setAttribute("aria-valuetext", label);
      words.textContent = text;
      draw();
    };
    const names = new Set();
    legend(
      figure,
      data.layers.filter((layer) => {
        const first = layer.name && !names.has(layer.name);
        names.add(layer.name);
        return first;
      })
    );
    slider.addEventListener("input", tell);
    return () => {
      panels = panelsOf(figure, data);
      tell();
    };
  }

  // Points: choose one in the list, by pointing or with a click.
  function points(figure, data) {
    const [shown, chosen] = figure.querySelectorAll("select");
    const words = figure.querySelector(".lq-words");
    const flat = [];
    data.layers.forEach((layer, group) =>
      layer.x.forEach((_, i) => flat.push({ layer, group, i }))
    );
    const place = new Map();
    flat.forEach((point, k) => place.set(point.layer.index[point.i], k));
    let panel = null;
    const visible = ({ group }) =>
      shown.value === "all" || Number(shown.value) === group;
    const ring = ({ layer, i }, look) => {
      const [x, y] = panel.at(layer, i).map(Number);
      add(panel.marks, "circle", { cx: x, cy: y, r: 8, class: look });
      panel.name(layer.names[i], x, y, look === "lq-near");
    };
    const draw = () => {
      panel.marks.textContent = "";
      for (const point of flat.filter(visible)) {
        MARKS.dots(panel, point.layer, [point.i]);
      }
      const one = flat[place.get(Number(chosen.value))];
      words.textContent = one.layer.words[one.i];
      for (const near of one.layer.near[one.i]) {
        ring(flat[place.get(near)], "lq-near");
      }
      ring(one, "lq-chosen");
    };
    const nearest = (event) => {
      const svg = figure.querySelector(".lq-panels svg");
      const corner = svg.getBoundingClientRect();
      const away = ({ layer, i }) => {
        const [x, y] = panel.at(layer, i).map(Number);
        const left = corner.left + x;
        return Math.hypot(left - event.clientX, corner.top + y - event.clientY);
      };
      const near = flat.filter(visible).sort((a, b) => away(a) - away(b))[0];
      if (!near || away(near) > 16) return;
      const index = String(near.layer.index[near.i]);
      if (index === chosen.value) return;
      chosen.value = index;
      draw();
    };
    legend(
      figure,
      data.layers.filter((layer) => layer.name)
    );
    shown.addEventListener("change", draw);
    chosen.addEventListener("change", draw);
    const box = figure.querySelector(".lq-panels");
    box.addEventListener("pointermove", nearest);
    box.addEventListener("click", nearest);
    return () => {
      [panel] = panelsOf(figure, data);
      draw();
    };
  }

  function start(figure) {
    figure.dataset.ready = "yes";
    const source = figure.querySelector("script[type='application/json']");
    const data = JSON.parse(source.textContent);
    for (const part of figure.querySelectorAll("[hidden]")) {
      part.hidden = false;
    }
    figure.querySelector("details").open = false;
    const fit = (data.kind === "points" ? points : steps)(figure, data);
    fit();
    let wide = window.innerWidth;
    window.addEventListener("resize", () => {
      if (window.innerWidth !== wide) fit();
      wide = window.innerWidth;
    });
  }

  function startAll() {
    const waiting = "figure.lq-interactive:not([data-ready])";
    document.querySelectorAll(waiting).forEach(start);
  }

  if (document.readyState === "loading") {
    document.addEventListener("DOMContentLoaded", startAll);
  } else {
    startAll();
  }
})();
