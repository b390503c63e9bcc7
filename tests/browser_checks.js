// What tests ask a page: which texts lie over each other, which are too pale, what the keyboard should reach.
(() => {
  const shown = (node) => node.checkVisibility({ opacityProperty: true, visibilityProperty: true });
  const said = (text) => text.trim().replace(/\s+/g, " ").slice(0, 60);

  function* texts() {
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node; (node = walker.nextNode()); ) {
      const parent = node.parentElement;
      if (node.data.trim() && !parent.closest("script, style, noscript, option") && shown(parent)) yield [node, parent];
    }
  }

  // The part of an element's surroundings that its scrolling and clipping ancestors let through.
  const windows = new Map();
  function visibleThrough(node) {
    if (!node || node === document.body) return [0, -Infinity, Infinity, Infinity];
    if (windows.has(node)) return windows.get(node);
    let [left, top, right, bottom] = visibleThrough(node.parentElement);
    const style = getComputedStyle(node);
    if (style.overflowX !== "visible" || style.overflowY !== "visible") {
      const box = node.getBoundingClientRect();
      [left, top] = [Math.max(left, box.left), Math.max(top, box.top)];
      [right, bottom] = [Math.min(right, box.right), Math.min(bottom, box.bottom)];
    }
    windows.set(node, [left, top, right, bottom]);
    return windows.get(node);
  }

  function boxes() {
    windows.clear();
    const found = [];
    for (const [node, parent] of texts()) {
      const [left, top, right, bottom] = visibleThrough(parent);
      const range = document.createRange();
      range.selectNodeContents(node);
      for (const rect of range.getClientRects()) {
        const box = [Math.max(left, rect.left), Math.max(top, rect.top), Math.min(right, rect.right), Math.min(bottom, rect.bottom)];
        if (box[2] - box[0] > 1 && box[3] - box[1] > 1) found.push({ box, node, text: node.data });
      }
    }
    return found;
  }

  // Pairs of texts that share more than a pixel across and a quarter of a line's height.
  function overlaps() {
    const found = [];
    const sorted = boxes().sort((a, b) => a.box[1] - b.box[1]);
    sorted.forEach((one, i) => {
      for (let j = i + 1; j < sorted.length && sorted[j].box[1] < one.box[3]; j += 1) {
        const other = sorted[j];
        if (one.node === other.node) continue;
        const across = Math.min(one.box[2], other.box[2]) - Math.max(one.box[0], other.box[0]);
        const down = Math.min(one.box[3], other.box[3]) - Math.max(one.box[1], other.box[1]);
        if (across > 1 && down > 0.25 * Math.min(one.box[3] - one.box[1], other.box[3] - other.box[1])) {
          found.push(`${said(one.text)} | ${said(other.text)}`);
        }
      }
    });
    return found;
  }

  const pen = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d", { willReadFrequently: true });
  const known = new Map();
  function rgba(colour) {
    if (!known.has(colour)) {
      pen.clearRect(0, 0, 1, 1);
      pen.fillStyle = colour;
      pen.fillRect(0, 0, 1, 1);
      const [r, g, b, a] = pen.getImageData(0, 0, 1, 1).data;
      known.set(colour, [r, g, b, a / 255]);
    }
    return known.get(colour);
  }
  const over = ([r, g, b, a], under) => [r, g, b].map((value, i) => value * a + under[i] * (1 - a));

  function ground(node) {
    if (!node) return matchMedia("(prefers-color-scheme: dark)").matches ? [18, 18, 18] : [255, 255, 255];
    const colour = rgba(getComputedStyle(node).backgroundColor);
    return colour[3] === 1 ? colour.slice(0, 3) : over(colour, ground(node.parentElement));
  }

  // WCAG 2.2: relative luminance, and the ratio of two.
  function luminance(colour) {
    const [r, g, b] = colour.map((value) => (value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  }
  function ratio(one, other) {
    const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (light + 0.05) / (dark + 0.05);
  }

  // Texts below AA: 4.5 to 1, and 3 to 1 where they are large. What is disabled is exempt.
  function pale() {
    const found = new Set();
    const judge = (node, text) => {
      if (node.closest(":disabled")) return;
      const style = getComputedStyle(node);
      const under = ground(node);
      const svg = node instanceof SVGElement;
      let [r, g, b, a] = rgba(svg ? style.fill : style.color);
      for (let up = node; up; up = up.parentElement) a *= Number(getComputedStyle(up).opacity);
      const size = parseFloat(style.fontSize);
      const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
      const is = ratio(over([r, g, b, a], under), under);
      if (is < (large ? 3 : 4.5)) found.add(`${is.toFixed(2)}: ${said(text)}`);
    };
    for (const [node, parent] of texts()) judge(parent, node.data);
    for (const field of document.querySelectorAll("select, input")) if (shown(field)) judge(field, `${field.dataset.filter ?? field.name}`);
    return [...found];
  }

  // What a mouse can use and a keyboard therefore must: each gets a number, which `stop` tells.
  function usable() {
    const all = [...document.querySelectorAll("a[href], button, select, input, summary, [tabindex='0']")];
    return all.filter((node) => shown(node) && !node.disabled).map((node, i) => {
      node.dataset.stop = i;
      return `${node.tagName.toLowerCase()} ${said(node.textContent)}`;
    });
  }

  // Where the focus is: its number, null on what `usable` did not know, -1 outside of everything; and whether one sees it.
  function stop() {
    const node = document.activeElement;
    if (!node || node === document.body || node === document.documentElement) return [-1, true, ""];
    const style = getComputedStyle(node);
    const box = node.getBoundingClientRect();
    const seen = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2 && box.width > 0 && box.height > 0;
    const outline = rgba(style.outlineColor);
    const clear = ratio(over(outline, ground(node.parentElement)), ground(node.parentElement)) >= 3;
    const inside = box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth;
    return [node.dataset.stop === undefined ? null : Number(node.dataset.stop), seen && clear && inside, node.outerHTML.slice(0, 120)];
  }

  window.checks = { overlaps, pale, usable, stop };
})();
