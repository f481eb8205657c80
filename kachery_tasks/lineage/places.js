"use strict";

const TILE = { width: 136, height: 28 }, DOT = { width: 18, height: 18 }, HEAD = 52, EDGE = 12, LABELLED = 40;

// How the members of an unfolded box stand in it: with their names where they are few, else as dots.
function grid(count) {
  const cell = count <= LABELLED ? TILE : DOT, columns = Math.ceil(Math.sqrt((count * cell.height * 1.5) / cell.width));
  return { cell, columns, width: columns * cell.width + 2 * EDGE, height: HEAD + Math.ceil(count / columns) * cell.height + EDGE };
}

// Where all boxes and bends are when some boxes are unfolded: these grow, and push the others aside and down.
function placed({ places, sizes, members }, unfolded) {
  const now = places.map(([x, y, layer], i) => ({ x, y, layer, width: (sizes[i] || [0])[0], height: (sizes[i] || [0, 0])[1] }));
  const extra = [];
  for (const box of unfolded) {
    const me = now[box], { width, height } = grid(members[box]), middle = me.x;
    const more = Math.max(0, width - me.width);
    extra[me.layer] = Math.max(extra[me.layer] || 0, height - me.height);
    for (const one of now) one.x += Math.abs(one.x - middle) < 1 ? 0 : (Math.sign(one.x - middle) * more) / 2;
    me.width += more;
    me.height = height;
  }
  const above = [0];
  for (const { layer } of now) for (let i = above.length; i <= layer + 1; i++) above[i] = above[i - 1] + (extra[i - 1] || 0);
  for (const one of now) one.y += above[one.layer] + (extra[one.layer] || 0) / 2;
  return now;
}

// The lines: straight down to the edges of their layers, and curved between them (as in page.py).
function curves({ segments }, now) {
  const half = [];
  for (const { layer, height } of now) half[layer] = Math.max(half[layer] || 0, height / 2);
  return segments.map(([source, target]) => {
    const from = now[source], to = now[target], top = from.y + half[from.layer], bottom = to.y - half[to.layer], middle = (top + bottom) / 2;
    return `M${from.x} ${from.y + from.height / 2}V${top}C${from.x} ${middle} ${to.x} ${middle} ${to.x} ${bottom}V${to.y - to.height / 2}`;
  });
}

