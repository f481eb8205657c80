"use strict";
document.documentElement.classList.add("js");

// What is seen of the picture: moved and scaled by mouse, touch and buttons. `placed` tells where all is.
function makeView(canvas, panel, world, placed, { up, asked }) {
  let x = 0, y = 0, scale = 1, moved = false;
  let fitted = null, width = 0; // as what it was fitted, until it is moved; the width it was shown in
  const held = new Map();
  const show = () => {
    world.setAttribute("transform", `translate(${x} ${y}) scale(${scale})`);
    canvas.classList.toggle("far", scale < 0.25); // no text could be read, so colours stand for it
  };

  function bounds() {
    let left = Infinity, right = -Infinity, top = Infinity, bottom = -Infinity;
    for (const one of placed()) {
      left = Math.min(left, one.x - one.width / 2);
      right = Math.max(right, one.x + one.width / 2);
      top = Math.min(top, one.y - one.height / 2);
      bottom = Math.max(bottom, one.y + one.height / 2);
    }
    return { left, top, width: right - left, height: bottom - top };
  }

  function centre(middle, height) {
    x = canvas.clientWidth / 2 - middle * scale;
    y = canvas.clientHeight / 2 - height * scale;
    show();
  }

  // All of it; or, where it would be smaller than `smallest`, the part around what was asked for.
  function fit(smallest = 0.02) {
    const { left, top, width: across, height } = bounds();
    const whole = Math.min((canvas.clientWidth - 60) / across, (canvas.clientHeight - 110) / height, 1.1);
    scale = Math.max(whole, smallest);
    centre(left + across / 2, top + height / 2 + 20 / scale);
    fitted = smallest;
    width = canvas.clientWidth;
    if (whole >= smallest || !asked.length) return;
    const me = placed()[asked[0]], away = ((up ? -1 : 1) * canvas.clientHeight) / 3.2 / scale;
    centre(me.x, height * scale < canvas.clientHeight ? top + height / 2 : me.y + away);
  }

  // Keep the middle in the middle, when the window or the panel takes or gives room.
  function resized() {
    if (fitted !== null) return fit(fitted);
    x += (canvas.clientWidth - width) / 2;
    width = canvas.clientWidth;
    show();
  }
  addEventListener("resize", resized);

  function zoom(factor, atX = canvas.clientWidth / 2, atY = canvas.clientHeight / 2) {
    const next = Math.min(4, Math.max(0.02, scale * factor));
    fitted = null;
    x = atX - ((atX - x) * next) / scale;
    y = atY - ((atY - y) * next) / scale;
    scale = next;
    show();
  }

  function move(dx, dy) {
    fitted = null;
    x += dx;
    y += dy;
    show();
  }

  // Move as little as needed to see an element; on a phone the panel lies over the picture.
  function reveal(element) {
    const box = element.getBoundingClientRect(), room = canvas.getBoundingClientRect(), over = panel.getBoundingClientRect(), margin = 30;
    const end = !panel.hidden && over.left < room.right - 1 ? over.top : room.bottom;
    const off = (low, high, from, to) => (low < from + margin ? from + margin - low : high > to - margin ? to - margin - high : 0);
    const dx = off(box.left, box.right, room.left, room.right), dy = off(box.top, box.bottom, room.top, end);
    if (dx || dy) move(dx, dy);
  }

  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const room = canvas.getBoundingClientRect(), step = event.deltaY * (event.deltaMode ? 20 : 1) * (event.ctrlKey ? 4 : 1);
    zoom(Math.exp(-Math.max(-240, Math.min(240, step)) / 500), event.clientX - room.left, event.clientY - room.top);
  }, { passive: false });

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    held.set(event.pointerId, event);
    moved = held.size > 1;
  });

  addEventListener("pointermove", (event) => {
    const before = held.get(event.pointerId);
    if (!before) return;
    const dx = event.clientX - before.clientX, dy = event.clientY - before.clientY;
    if (!moved && Math.hypot(dx, dy) < 4) return;
    moved = true;
    canvas.classList.add("held");
    const other = [...held.values()].find((one) => one.pointerId !== event.pointerId);
    if (other) {
      const room = canvas.getBoundingClientRect(), far = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
      zoom(far(event) / Math.max(1, far(before)), other.clientX - room.left, other.clientY - room.top);
    } else {
      move(dx, dy);
    }
    held.set(event.pointerId, event);
  });

  for (const end of ["pointerup", "pointercancel"])
    addEventListener(end, (event) => {
      held.delete(event.pointerId);
      canvas.classList.remove("held");
    });
  canvas.addEventListener("dragstart", (event) => event.preventDefault());

  // On paper all of it is seen.
  addEventListener("beforeprint", () => {
    const { left, top, width, height } = bounds();
    if (placed().length) canvas.setAttribute("viewBox", `${left - 20} ${top - 20} ${width + 40} ${height + 40}`);
    world.removeAttribute("transform");
  });
  addEventListener("afterprint", () => {
    canvas.removeAttribute("viewBox");
    show();
  });

  canvas.removeAttribute("viewBox");
  return { fit, zoom, reveal, resized, moved: () => moved };
}

