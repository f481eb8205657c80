addEventListener("DOMContentLoaded", () => {
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("data").textContent);
  const { sizes, members, segments, links } = data;
  const canvas = $("canvas"), panel = $("panel"), search = $("search"), tileLayer = $("tiles");
  const boxes = [...$("boxes").children], paths = [...$("lines").children];

  // Members are counted through all boxes, as the page tells of them: #n0, #n1, ...
  const first = [], boxOf = [];
  members.forEach((count, box) => {
    first.push(boxOf.length);
    for (let i = 0; i < count; i++) boxOf.push(box);
  });
  const factsOf = (n) => $("n" + n), entryOf = (n) => factsOf(n).parentElement;
  const wordsOf = (n) => [...entryOf(n).querySelectorAll("summary span")].map((one) => one.textContent);
  const nameOf = (n, words = wordsOf(n)) => entryOf(n).dataset.label || (words[1] === "input" ? words[0] : words[1]);
  const isMany = (box) => members[box] > 1;

  const remember = (hash) => { try { history.replaceState(null, "", hash); } catch { /* a page inside another one may not */ } };

  // Where everything is

  const unfolded = new Set();
  let now = [], tiles = new Map();
  const view = makeView(canvas, panel, $("world"), () => now, data);

  function arrange() {
    now = placed(data, unfolded);
    boxes.forEach((element, box) => {
      const { x, y, width, height } = now[box];
      element.classList.toggle("open", unfolded.has(box));
      element.setAttribute("transform", `translate(${x - width / 2} ${y - height / 2})`);
      for (const part of element.querySelectorAll(".body, .back")) {
        part.setAttribute("width", width);
        part.setAttribute("height", height);
      }
    });
    curves(data, now).forEach((curve, i) => paths[i].setAttribute("d", curve));
    drawTiles();
  }

  function make(name, attributes, parent) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const key in attributes) element.setAttribute(key, attributes[key]);
    return parent.appendChild(element);
  }

  function drawTiles() {
    tileLayer.replaceChildren();
    tiles = new Map();
    for (const box of unfolded) {
      const { cell, columns } = grid(members[box]), { x, y, width, height } = now[box];
      const left = x - width / 2 + EDGE, top = y - height / 2 + HEAD, colour = (boxes[box].className.baseVal.match(/\bc\d/) || [""])[0];
      for (let i = 0; i < members[box]; i++) {
        const n = first[box] + i, words = wordsOf(n), label = nameOf(n, words);
        const at = `translate(${left + (i % columns) * cell.width} ${top + Math.floor(i / columns) * cell.height})`;
        const kind = cell === DOT ? "dot" : "text";
        const tile = make("a", { class: `tile ${kind} ${colour} ${entryOf(n).className}`, href: "#n" + n, transform: at, tabindex: -1, "aria-label": words.join(", ") }, tileLayer);
        make("title", {}, tile).textContent = `${words[0]}  ${label}\n${words.slice(2).join("  ")}`;
        make("rect", { class: "body", width: cell.width - 4, height: cell.height - 4, rx: 3 }, tile);
        if (cell === TILE) make("text", { x: 6, y: 16 }, tile).textContent = label.length > 21 ? label.slice(0, 20) + "…" : label;
        tiles.set(n, tile);
      }
    }
  }

  function fold(box, open) {
    if (open) unfolded.add(box);
    else unfolded.delete(box);
    arrange();
    mark();
    find();
  }

  // Choosing a box, or one of its members

  let chosen = null; // { box, n }: n is null for a box of many

  function choose(box, n, andFocus) {
    chosen = { box, n };
    remember(n === null ? "#g" + box : "#n" + n);
    panel.hidden = false;
    view.resized();
    tell();
    mark();
    view.reveal(tiles.get(n) || boxes[box]);
    if (andFocus) panel.focus();
  }

  function leave() {
    chosen = null;
    panel.hidden = true;
    view.resized();
    remember(location.pathname + location.search);
    mark();
  }

  function tell() {
    const { box, n } = chosen, close = button("×", leave);
    close.className = "close";
    close.setAttribute("aria-label", "Close");
    const title = document.createElement("h2");
    title.textContent = n === null ? boxes[box].getAttribute("aria-label") : wordsOf(n)[0];
    const inside = n === null ? listOf(box) : [factsOf(n).firstElementChild.cloneNode(true)];
    if (n !== null && isMany(box)) inside.unshift(button(`One of ${members[box]}`, () => choose(box, null)));
    panel.replaceChildren(close, title, ...inside);
    panel.scrollTop = 0;
    for (const code of panel.querySelectorAll("code.copy")) code.after(copier(code));
  }

  function button(text, act) {
    const element = document.createElement("button");
    element.type = "button";
    element.textContent = text;
    element.addEventListener("click", act);
    return element;
  }

  function copier(code) {
    const element = button("Copy", async () => {
      getSelection().selectAllChildren(code);
      try {
        await navigator.clipboard.writeText(code.textContent);
      } catch {
        document.execCommand("copy");
      }
      element.textContent = "Copied";
    });
    element.className = "copier";
    return element;
  }

  function listOf(box) {
    const list = document.createElement("ul");
    for (let n = first[box]; n < first[box] + members[box]; n++) {
      const row = document.createElement("li"), link = document.createElement("a"), took = document.createElement("span");
      const words = wordsOf(n);
      link.href = "#n" + n;
      link.textContent = nameOf(n, words);
      took.textContent = words[3] || "";
      row.append(link, took);
      list.append(row);
    }
    return [button(unfolded.has(box) ? "Fold" : "Unfold", () => { fold(box, !unfolded.has(box)); tell(); view.reveal(boxes[box]); }), list];
  }

  function mark() {
    for (const one of [...boxes, ...paths, ...tiles.values()]) one.classList.remove("on", "near");
    if (!chosen) return;
    const { box, n } = chosen;
    (tiles.get(n) || boxes[box]).classList.add("on");
    for (const [source, target] of links) {
      const mine = n === null ? boxOf[source] === box || boxOf[target] === box : source === n || target === n;
      if (!mine) continue;
      for (const other of [source, target]) if (other !== n && tiles.has(other) && boxOf[other] !== box) tiles.get(other).classList.add("near");
      markLine(boxOf[source], boxOf[target]);
    }
  }

  const arriving = new Map();
  segments.forEach(([from, to], i) => arriving.set(to, [...(arriving.get(to) || []), [from, i]]));

  function markLine(source, target) {
    for (const [from, i] of arriving.get(target) || []) {
      const way = [i];
      let at = from;
      while (at >= sizes.length) {
        const [before, segment] = arriving.get(at)[0];
        way.push(segment);
        at = before;
      }
      if (at === source) for (const segment of way) paths[segment].classList.add("on");
    }
  }

  function follow(event) {
    const link = event.target.closest("a[href^='#']");
    if (!link || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    if (event.detail && view.moved() && canvas.contains(link)) return; // the end of a drag
    const [, kind, number] = link.getAttribute("href").match(/^#([nbg])(\d+)$/);
    if (kind !== "n") choose(+number, isMany(+number) ? null : first[number]);
    else goTo(+number);
  }

  function goTo(n, andFocus) {
    if (document.body.classList.contains("listing")) {
      entryOf(n).open = true;
      entryOf(n).scrollIntoView({ block: "center" });
    }
    choose(boxOf[n], n, andFocus);
  }

  document.addEventListener("click", follow);
  canvas.addEventListener("click", (event) => { if (!view.moved() && !event.target.closest("a")) leave(); });

  // Searching

  const texts = [];
  const textOf = (n) => (texts[n] ??= `${entryOf(n).textContent} ${entryOf(n).dataset.label || ""}`.toLowerCase());
  let hits = [], next = 0;

  function find() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const fits = boxOf.map((_, n) => words.every((word) => textOf(n).includes(word)));
    hits = words.length ? [...boxOf.keys()].filter((n) => fits[n]) : [];
    next = 0;
    const seen = new Set(hits.map((n) => boxOf[n]));
    boxes.forEach((element, box) => element.classList.toggle("dim", words.length > 0 && !seen.has(box)));
    for (const [n, tile] of tiles) tile.classList.toggle("dim", !fits[n]);
    boxOf.forEach((_, n) => { entryOf(n).hidden = !fits[n]; });
    for (const heading of document.querySelectorAll("h3")) heading.hidden = words.length > 0 && !seen.has(+heading.id.slice(1));
    $("hits").textContent = words.length ? `${hits.length} found` : "";
  }

  search.addEventListener("input", find);
  search.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !hits.length) return;
    goTo(hits[next]);
    next = (next + 1) % hits.length;
    $("hits").textContent = `${next || hits.length} of ${hits.length}`;
  });

  // Keys

  function walk(key, at) {
    const from = now[at], across = key === "ArrowLeft" || key === "ArrowRight", sign = key === "ArrowUp" || key === "ArrowLeft" ? -1 : 1;
    const linked = new Set(links.filter((link) => boxOf[link[sign < 0 ? 1 : 0]] === at).map((link) => boxOf[link[sign < 0 ? 0 : 1]]));
    const there = [...boxes.keys()].filter((box) => box !== at && (across ? now[box].layer === from.layer && (now[box].x - from.x) * sign > 0 : linked.has(box)));
    return there.sort((a, b) => Math.abs(now[a].x - from.x) - Math.abs(now[b].x - from.x))[0];
  }

  function focusOn(element) {
    for (const one of boxes) one.setAttribute("tabindex", one === element ? 0 : -1);
    element.focus({ preventScroll: true });
    view.reveal(element);
  }

  function arrow(event) {
    const tile = event.target.closest(".tile"), box = event.target.closest(".box");
    if (tile) {
      const n = +tile.getAttribute("href").slice(2), { columns } = grid(members[boxOf[n]]);
      const to = n + { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[event.key];
      return focusOn(boxOf[to] === boxOf[n] ? tiles.get(to) : boxes[boxOf[n]]);
    }
    if (box && event.key === "ArrowDown" && event.shiftKey && unfolded.has(boxes.indexOf(box))) return focusOn(tiles.get(first[boxes.indexOf(box)]));
    const to = box ? walk(event.key, boxes.indexOf(box)) : data.asked[0];
    if (to !== undefined) focusOn(boxes[to]);
  }

  const doing = {
    nearer: () => view.zoom(1.3),
    farther: () => view.zoom(1 / 1.3),
    fit: () => view.fit(),
    unfold: () => {
      const many = [...boxes.keys()].filter(isMany), open = unfolded.size < many.length;
      for (const box of many) unfolded[open ? "add" : "delete"](box);
      unfoldAll.textContent = open ? "Fold all" : "Unfold all";
      fold(-1, false);
      if (chosen) tell();
      view.fit();
    },
  };
  const keys = { "+": "nearer", "=": "nearer", "-": "farther", 0: "fit", u: "unfold" };
  for (const one of document.querySelectorAll("[data-do]")) one.addEventListener("click", doing[one.dataset.do]);
  const unfoldAll = document.querySelector("[data-do=unfold]");
  unfoldAll.hidden = !members.some((count) => count > 1);

  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && chosen) {
      const { box } = chosen;
      leave();
      focusOn(boxes[box]);
    }
    if (event.target.matches("input") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "/") search.focus();
    else if (keys[event.key]) doing[keys[event.key]]();
    else if (event.key.startsWith("Arrow") && !event.target.closest("#panel, #list")) arrow(event);
    else return;
    event.preventDefault();
  });

  $("as-list").addEventListener("click", (event) => {
    const listing = document.body.classList.toggle("listing");
    event.target.setAttribute("aria-pressed", listing);
  });

  if (members.length) {
    for (const one of boxes) one.setAttribute("tabindex", -1);
    boxes[data.asked[0] || 0].setAttribute("tabindex", 0);
    arrange();
    view.fit(0.6);
    const [, kind, number] = location.hash.match(/^#([nbg])(\d+)$/) || [];
    if (kind === "n" && +number < boxOf.length) goTo(+number);
    else if (kind && +number < boxes.length) choose(+number, isMany(+number) ? null : first[number]);
  }
});
