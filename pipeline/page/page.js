// What can be done on the page: the map, lists of its rows, and changed labels.
// Texts and names are put into the page as text only, never as HTML.
"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const number = (n) => n.toLocaleString("en-US");
  const percent = (p) => `${(100 * p).toFixed(1)}%`;
  const element = (name, classes, text) => {
    const made = document.createElement(name);
    if (classes) made.className = classes;
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const isolated = (text) => {
    const made = element("b");
    made.append(element("bdi", "", text));
    return made;
  };
  const aside = (before, text, after) => {
    const made = element("span", "", before);
    made.append(isolated(text), after ?? "");
    return made;
  };

  const labels = JSON.parse($("labels").textContent);
  const optionsOf = (select) => {
    select.append(...labels.map((label, code) => new Option(label, code)));
    return select;
  };

  // ---- Changed labels: of all lists on the page, by the number of the row.

  const changes = new Map();
  let downloaded = true;
  let onChange = () => {};

  // `code` is that of a label, as selects have it: "" where none is chosen.
  function change(item, code) {
    const label = code === "" ? item.label : labels[code];
    if (label === item.label) changes.delete(item.row);
    else changes.set(item.row, { id: item.id, label });
    downloaded = changes.size === 0;
  }

  function showChanges() {
    $("changed").hidden = changes.size === 0;
    $("changed-count").textContent =
      changes.size === 1 ? "1 label changed" : `${number(changes.size)} labels changed`;
    for (const item of document.querySelectorAll(".row")) {
      const made = changes.get(Number(item.dataset.row));
      item.classList.toggle("is-changed", made !== undefined);
      const select = item.querySelector("select");
      if (select) select.value = made ? labels.indexOf(made.label) : "";
    }
    onChange();
  }

  function csv() {
    const cell = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
    const lines = [...changes]
      .sort((a, b) => a[0] - b[0])
      .map(([row, made]) => `${cell(made.id)},${row},${cell(made.label)}\n`);
    return "id,row,label\n" + lines.join("");
  }

  function download() {
    const link = element("a");
    link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
    link.download = "corrections.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    downloaded = true;
  }

  function addSelect(place, item) {
    const label = element("label", "field", "Change label to ");
    const select = element("select");
    select.append(new Option("…", ""));
    optionsOf(select).value = changes.has(item.row)
      ? labels.indexOf(changes.get(item.row).label)
      : "";
    select.addEventListener("change", () => {
      change(item, select.value);
      showChanges();
    });
    label.append(select);
    place.append(label);
  }

  for (const listed of document.querySelectorAll(".row")) {
    const [row, id, label] = ["row", "id", "label"].map((key) => JSON.parse(listed.dataset[key]));
    const item = { row, id, label };
    const place = listed.querySelector(".change");
    place.querySelector(".accept")?.addEventListener("click", (event) => {
      change(item, labels.indexOf(JSON.parse(event.currentTarget.dataset.label)));
      showChanges();
    });
    addSelect(place, item);
  }
  $("download").addEventListener("click", download);
  $("undo").addEventListener("click", () => {
    changes.clear();
    downloaded = true;
    showChanges();
  });
  window.addEventListener("beforeunload", (event) => {
    if (!downloaded) event.preventDefault();
  });

  // Paper has nothing to unfold a list with.
  let folded = [];
  window.addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll(".rest:not([open])")];
    for (const rest of folded) rest.open = true;
  });
  window.addEventListener("afterprint", () => {
    for (const rest of folded) rest.open = false;
  });

  if (!$("arrays")) return;
  $("map-note").hidden = true;

  // ---- The map's rows, unpacked.

  async function unpacked(id) {
    const text = atob($(id).textContent);
    const packed = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) packed[i] = text.charCodeAt(i);
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).arrayBuffer();
  }

  function readArrays(buffer, n) {
    let at = 0;
    const next = (kind) => {
      const made = new kind(buffer, at, n);
      at += n * kind.BYTES_PER_ELEMENT;
      return made;
    };
    return {
      row: next(Uint32Array),
      x: next(Uint16Array),
      y: next(Uint16Array),
      label: next(Int16Array),
      predicted: next(Int16Array),
      probability: next(Uint8Array),
    };
  }

  const START = { x: 0.5, y: 0.5, zoom: 1 };
  // Rows that are listed at first, and with each press of "Show more".
  const FIRST = 12, MORE = 50;
  const COLOURS = 8;
  let points, names, n, found, picked, list, lowered;
  let view = { ...START };
  let shown = 0;
  let image = null;
  let hovered = -1;
  let path = [];
  const unticked = new Set();
  optionsOf($("bulk-label"));
  const canvas = $("canvas");
  const context = canvas.getContext("2d", { willReadFrequently: true });

  const nameOf = (code) => (code < 0 ? "nothing" : labels[code]);
  const itemOf = (i) => ({
    row: points.row[i],
    id: names.ids[i],
    label: points.label[i] < 0 ? "" : labels[points.label[i]],
  });
  const isWrong = (i) => points.label[i] >= 0 && points.label[i] !== points.predicted[i];
  const isRight = (i) => points.label[i] >= 0 && points.label[i] === points.predicted[i];

  // ---- Which rows are meant: by search, label, prediction, kind, and those picked on the map.

  function isFiltered() {
    return Boolean(
      $("search").value || $("true").value || $("predicted").value || $("kind").value || picked,
    );
  }

  function find() {
    const search = $("search").value.toLowerCase();
    const label = $("true").value === "" ? null : Number($("true").value);
    const predicted = $("predicted").value === "" ? null : Number($("predicted").value);
    const kind = $("kind").value;
    if (search && !lowered) {
      lowered = names.ids.map((id, i) => `${id}\n${names.texts ? names.texts[i] : ""}`.toLowerCase());
    }
    const kinds = { wrong: isWrong, right: isRight, changed: (i) => changes.has(points.row[i]) };
    const indices = [];
    found.fill(0);
    for (let i = 0; i < n; i++) {
      if (label !== null && points.label[i] !== label) continue;
      if (predicted !== null && points.predicted[i] !== predicted) continue;
      if (picked && !picked[i]) continue;
      if (kind && !kinds[kind](i)) continue;
      if (search && !lowered[i].includes(search)) continue;
      found[i] = 1;
      indices.push(i);
    }
    const order = $("order").value;
    const p = points.probability;
    if (order === "sure") indices.sort((a, b) => p[b] - p[a]);
    if (order === "unsure") indices.sort((a, b) => p[a] - p[b]);
    list = indices;
  }

  function update() {
    find();
    unticked.clear();
    hover(-1);
    draw();
    $("list").replaceChildren();
    shown = 0;
    showMore();
    const what = isFiltered() ? `${number(list.length)} of ${number(n)} rows` : `All ${number(n)} rows`;
    $("found").classList.toggle("is-filtered", isFiltered());
    $("found-title").textContent = what;
    $("said").textContent = what;
    showBulk();
  }

  function showBulk() {
    const ticked = list.length - unticked.size;
    $("bulk").disabled = !isFiltered() || ticked === 0 || $("bulk-label").value === "";
    $("bulk").textContent = isFiltered()
      ? `Change the ${number(ticked)} ticked rows`
      : "Change the ticked rows";
  }

  function showMore() {
    const more = list.slice(shown, shown ? shown + MORE : FIRST);
    $("list").append(...more.map(rowOf));
    shown += more.length;
    $("more").hidden = shown >= list.length;
    $("more").textContent = `Show ${Math.min(MORE, list.length - shown)} more`;
  }

  function describe(i) {
    const text = names.texts ? names.texts[i] : null;
    const tweet = element("p", text === null ? "tweet missing" : "tweet", text ?? "text not included");
    if (text !== null) tweet.dir = "auto";
    const about = element("p", "about");
    about.append(
      aside("labelled ", nameOf(points.label[i])),
      " ",
      aside("predicted ", nameOf(points.predicted[i]), ` ${percent(points.probability[i] / 255)}`),
      " ",
      element("span", "id", `row ${points.row[i]}, id ${names.ids[i].slice(0, 60)}`),
    );
    return [tweet, about];
  }

  function rowOf(i) {
    const item = itemOf(i);
    const made = element("li", "row");
    made.dataset.row = item.row;
    const place = element("p", "change");
    const tick = element("input");
    tick.type = "checkbox";
    tick.checked = !unticked.has(i);
    tick.setAttribute("aria-label", `Row ${item.row}: change with the others`);
    tick.addEventListener("change", () => {
      if (tick.checked) unticked.delete(i);
      else unticked.add(i);
      showBulk();
    });
    place.append(tick);
    addSelect(place, item);
    made.append(...describe(i), place);
    made.classList.toggle("is-changed", changes.has(item.row));
    return made;
  }

  function changeTicked() {
    const label = $("bulk-label").value;
    for (const i of list) if (!unticked.has(i)) change(itemOf(i), label);
    showChanges();
  }

  function reset() {
    for (const id of ["search", "true", "predicted", "kind"]) $(id).value = "";
    picked = null;
    update();
  }

  function goToList() {
    $("found").focus({ preventScroll: true });
    $("found").scrollIntoView();
  }

  // ---- The drawing: dots in the order of the rows, blended, so that none hides the others.

  function scale() {
    const { clientWidth: w, clientHeight: h } = canvas;
    const [across, up] = names.spans.map((span) => span || 1);
    const s = view.zoom * Math.min((w - 28) / across, (h - 28) / up);
    return { s, w, h, across: names.spans[0], up: names.spans[1] };
  }

  function place(i, { s, w, h, across, up }) {
    const x = (points.x[i] / 65535 - view.x) * across * s + w / 2;
    const y = (view.y - points.y[i] / 65535) * up * s + h / 2;
    return [x, y];
  }

  function rgb(name) {
    const hex = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  }

  function colouring() {
    const by = document.querySelector("input[name=colour]:checked").value;
    const rest = rgb("--c-rest");
    const classes = labels.map((_, k) => (k < COLOURS ? rgb(`--c${k}`) : rest));
    if (by === "label") return (i) => (points.label[i] < 0 ? rest : classes[points.label[i]]);
    if (by === "predicted") return (i) => classes[points.predicted[i]];
    const [right, wrong] = [rgb("--c0"), rgb("--c1")];
    return (i) => (isWrong(i) ? wrong : isRight(i) ? right : rest);
  }

  // Pixels of a dot around its middle, and how much of each it covers; a wrong row is a cross, so
  // colour is not all that tells.
  function shapes(radius) {
    const disc = [], cross = [];
    const reach = Math.ceil(radius * 1.1);
    const add = (shape, dx, dy, covered) => covered > 0 && shape.push([dx, dy, Math.min(1, covered)]);
    for (let dy = -reach; dy <= reach; dy++) {
      for (let dx = -reach; dx <= reach; dx++) {
        add(disc, dx, dy, radius + 0.5 - Math.hypot(dx, dy));
        add(cross, dx, dy, radius * 0.3 + 0.5 - Math.abs(Math.abs(dx) - Math.abs(dy)) / Math.SQRT2);
      }
    }
    return { disc, cross };
  }

  function draw() {
    const ratio = window.devicePixelRatio || 1;
    const [w, h] = [canvas.clientWidth * ratio, canvas.clientHeight * ratio].map(Math.round);
    if (!w || !h) return;
    if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
    image = context.createImageData(w, h);
    const pixels = image.data;
    const paper = rgb("--panel");
    for (let at = 0; at < pixels.length; at += 4) {
      pixels[at] = paper[0];
      pixels[at + 1] = paper[1];
      pixels[at + 2] = paper[2];
      pixels[at + 3] = 255;
    }
    const frame = scale();
    const radius = ratio * (n > 20000 ? 1.3 : n > 3000 ? 2 : 3) * Math.min(2.5, view.zoom ** 0.35);
    const { disc, cross } = shapes(radius);
    const byError = document.querySelector("input[name=colour]:checked").value === "error";
    const colour = colouring();
    const faint = rgb("--faint");
    const stamp = (i, shape, [r, g, b], share) => {
      const [x, y] = place(i, frame);
      const [cx, cy] = [Math.round(x * ratio), Math.round(y * ratio)];
      if (cx < -9 || cy < -9 || cx > w + 9 || cy > h + 9) return;
      for (const [dx, dy, covered] of shape) {
        const px = cx + dx, py = cy + dy;
        if (px < 0 || py < 0 || px >= w || py >= h) continue;
        const at = 4 * (py * w + px);
        const a = covered * share;
        pixels[at] += (r - pixels[at]) * a;
        pixels[at + 1] += (g - pixels[at + 1]) * a;
        pixels[at + 2] += (b - pixels[at + 2]) * a;
      }
    };
    const share = n > 20000 ? 0.45 : 0.7;
    if (isFiltered()) for (let i = 0; i < n; i++) if (!found[i]) stamp(i, disc, faint, 1);
    for (let i = 0; i < n; i++) {
      if (found[i]) stamp(i, byError && isWrong(i) ? cross : disc, colour(i), share);
    }
    overlay();
  }

  function overlay() {
    if (!image) return;
    const ratio = window.devicePixelRatio || 1;
    context.putImageData(image, 0, 0);
    context.save();
    context.scale(ratio, ratio);
    const style = getComputedStyle(document.documentElement);
    context.strokeStyle = style.getPropertyValue("--ink");
    context.lineWidth = 2;
    context.beginPath();
    if (hovered >= 0) {
      const [x, y] = place(hovered, scale());
      context.arc(x, y, 7, 0, 7);
    }
    context.stroke();
    if (path.length > 1) {
      context.setLineDash([5, 4]);
      context.beginPath();
      for (const [x, y] of path) context.lineTo(x, y);
      context.closePath();
      context.stroke();
    }
    context.restore();
  }

  function showLegend() {
    const by = document.querySelector("input[name=colour]:checked").value;
    const entries =
      by === "error"
        ? [["c0", "right"], ["c1", "wrong", "×"]]
        : labels.slice(0, COLOURS).map((label, k) => [`c${k}`, label]);
    if (by !== "error" && labels.length > COLOURS) entries.push(["c-rest", "other labels"]);
    if (by !== "predicted" && points.label.some((code) => code < 0)) entries.push(["c-rest", "no label"]);
    const space = "http://www.w3.org/2000/svg";
    $("legend").replaceChildren(
      ...entries.map(([colour, text, cross]) => {
        const svg = document.createElementNS(space, "svg");
        svg.setAttribute("class", "key");
        svg.setAttribute("viewBox", "0 0 26 14");
        svg.setAttribute("aria-hidden", "true");
        const shape = document.createElementNS(space, cross ? "path" : "circle");
        shape.setAttribute("class", cross ? `curve ${colour}` : `fill ${colour}`);
        if (cross) shape.setAttribute("d", "M8 2L18 12M18 2L8 12");
        else for (const [name, value] of [["cx", 13], ["cy", 7], ["r", 5]]) shape.setAttribute(name, value);
        svg.append(shape);
        const item = element("li");
        item.append(svg, " ", element("bdi", "", text));
        return item;
      }),
    );
  }

  // ---- Pointer and keys on the map.

  function nearest(x, y, within, isMeant) {
    const frame = scale();
    let best = -1, least = within * within;
    for (let i = 0; i < n; i++) {
      if (!found[i]) continue;
      const [px, py] = place(i, frame);
      const far = (px - x) ** 2 + (py - y) ** 2;
      if (far < least && (!isMeant || isMeant(px - x, py - y))) [best, least] = [i, far];
    }
    return best;
  }

  function hover(i) {
    if (i === hovered) return;
    hovered = i;
    overlay();
    const tip = $("tip");
    tip.hidden = i < 0;
    if (i < 0) return;
    tip.replaceChildren(...describe(i));
    const [x, y] = place(i, scale());
    const left = Math.min(Math.max(x - tip.offsetWidth / 2, 8), canvas.clientWidth - tip.offsetWidth - 8);
    const above = y - tip.offsetHeight - 14;
    tip.style.left = `${left}px`;
    tip.style.top = `${above > 0 ? above : y + 14}px`;
  }

  function pick(isMeant, more) {
    if (!more || !picked) picked = new Uint8Array(n);
    const frame = scale();
    for (let i = 0; i < n; i++) if (isMeant(i, frame)) picked[i] = 1;
    update();
  }

  function isInside(x, y) {
    let inside = false;
    for (let i = 0, j = path.length - 1; i < path.length; j = i++) {
      const [ax, ay] = path[i], [bx, by] = path[j];
      if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) inside = !inside;
    }
    return inside;
  }

  function zoom(factor, x, y) {
    const { s, w, h, across, up } = scale();
    const next = Math.min(Math.max(view.zoom * factor, 1), 200);
    const shift = 1 / s - 1 / ((s * next) / view.zoom);
    if (across) view.x += ((x - w / 2) * shift) / across;
    if (up) view.y -= ((y - h / 2) * shift) / up;
    view.zoom = next;
    if (next === 1) view = { ...START };
    hover(-1);
    draw();
  }
  const zoomMiddle = (factor) => zoom(factor, canvas.clientWidth / 2, canvas.clientHeight / 2);
  const whole = () => zoomMiddle(0);

  const isLasso = () => $("lasso").getAttribute("aria-pressed") === "true";
  function setLasso(on) {
    $("lasso").setAttribute("aria-pressed", String(on));
    canvas.classList.toggle("drawing", on);
  }

  let start = null;
  function onDown(event) {
    if (event.button !== 0) return;
    start = { x: event.offsetX, y: event.offsetY, view: { ...view }, moved: false };
    path = isLasso() ? [[event.offsetX, event.offsetY]] : [];
    canvas.setPointerCapture(event.pointerId);
  }
  function onMove(event) {
    const [x, y] = [event.offsetX, event.offsetY];
    if (!start) return hover(nearest(x, y, 14));
    if (Math.hypot(x - start.x, y - start.y) > 4) start.moved = true;
    if (isLasso()) {
      path.push([x, y]);
      overlay();
    } else if (start.moved && event.pointerType === "mouse") {
      const { s, across, up } = scale();
      view.x = start.view.x - (x - start.x) / s / (across || 1);
      view.y = start.view.y + (y - start.y) / s / (up || 1);
      hover(-1);
      draw();
    }
  }
  function onUp(event) {
    if (!start) return;
    const { moved } = start;
    start = null;
    if (!moved) {
      const i = nearest(event.offsetX, event.offsetY, 14);
      path = [];
      hover(i);
      if (i >= 0) pick((j) => j === i, event.shiftKey);
    } else if (path.length > 2) {
      const meant = (i, frame) => found_or_more(i, event.shiftKey) && isInside(...place(i, frame));
      pick(meant, event.shiftKey);
    }
    path = [];
    overlay();
  }
  // What search and selects have left out is not picked; with Shift, picked rows alone are found.
  const found_or_more = (i, more) => found[i] || (more && picked);

  const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { key } = event;
    if (STEPS[key]) {
      const [dx, dy] = STEPS[key];
      const [x, y] =
        hovered < 0 ? [canvas.clientWidth / 2, canvas.clientHeight / 2] : place(hovered, scale());
      const isAhead = (px, py) => {
        const ahead = px * dx + py * dy, beside = Math.abs(px * dy) + Math.abs(py * dx);
        return ahead >= 10 && beside <= ahead;
      };
      const i = nearest(x, y, Infinity, hovered < 0 ? null : isAhead);
      if (i >= 0) {
        hover(i);
        $("said").textContent = $("tip").textContent;
      }
    } else if (key === "Enter" || key === " ") {
      if (hovered >= 0) {
        const i = hovered;
        pick((j) => j === i, event.shiftKey);
        goToList();
      }
    } else if (key === "+" || key === "=") zoomMiddle(1.5);
    else if (key === "-") zoomMiddle(1 / 1.5);
    else if (key === "0") whole();
    else if (key === "Escape") hover(-1);
    else return;
    event.preventDefault();
  }

  function listen() {
    let later;
    $("search").addEventListener("input", () => {
      clearTimeout(later);
      later = setTimeout(update, 80);
    });
    for (const id of ["true", "predicted", "kind", "order"]) $(id).addEventListener("change", update);
    for (const one of document.querySelectorAll("input[name=colour]")) {
      one.addEventListener("change", () => {
        showLegend();
        draw();
      });
    }
    $("reset").addEventListener("click", reset);
    $("more").addEventListener("click", showMore);
    $("bulk").addEventListener("click", changeTicked);
    $("bulk-label").addEventListener("change", showBulk);
    $("lasso").addEventListener("click", () => setLasso(!isLasso()));
    $("zoom-in").addEventListener("click", () => zoomMiddle(1.5));
    $("zoom-out").addEventListener("click", () => zoomMiddle(1 / 1.5));
    $("whole").addEventListener("click", whole);
    for (const cell of document.querySelectorAll(".cell")) {
      cell.addEventListener("click", () => {
        for (const id of ["search", "kind"]) $(id).value = "";
        picked = null;
        $("true").value = cell.dataset.true;
        $("predicted").value = cell.dataset.predicted;
        update();
        goToList();
      });
    }
    canvas.addEventListener("pointerdown", onDown);
    canvas.addEventListener("pointermove", onMove);
    canvas.addEventListener("pointerup", onUp);
    canvas.addEventListener("pointercancel", () => {
      start = null;
      path = [];
      overlay();
    });
    canvas.addEventListener("pointerleave", () => start || hover(-1));
    canvas.addEventListener("blur", () => hover(-1));
    canvas.addEventListener("keydown", onKey);
    canvas.addEventListener(
      "wheel",
      (event) => {
        if (!event.ctrlKey) return;
        event.preventDefault();
        zoom(Math.exp(-event.deltaY / 300), event.offsetX, event.offsetY);
      },
      { passive: false },
    );
    new ResizeObserver(draw).observe(canvas);
    for (const query of ["(prefers-color-scheme: dark)", "print"]) {
      matchMedia(query).addEventListener("change", draw);
    }
    onChange = () => $("kind").value === "changed" && update();
  }

  async function open() {
    const [arrays, words] = await Promise.all([unpacked("arrays"), unpacked("names")]);
    names = JSON.parse(new TextDecoder().decode(words));
    n = names.ids.length;
    points = readArrays(arrays, n);
    found = new Uint8Array(n);
    picked = null;
    if (!names.texts) $("search").placeholder = "ids";
    setLasso(matchMedia("(pointer: fine)").matches);
    listen();
    showLegend();
    update();
    document.documentElement.dataset.map = "ready";
  }

  open().catch((error) => {
    $("map-note").hidden = false;
    $("map-note").textContent = `The map can't be shown by this browser: ${error.message}`;
  });
})();
