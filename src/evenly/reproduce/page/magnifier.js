"use strict";
// Under every picture of a row: the same place of all of them, enlarged pixel by pixel, with the pixels' grid.
document.documentElement.classList.add("js");
for (const row of document.querySelectorAll(".row")) {
  const SIDE = 24; // pixels of the picture that are seen
  const room = Math.min(...[...row.querySelectorAll("figure")].map((figure) => figure.clientWidth));
  const CELL = Math.max(5, Math.min(10, Math.floor(room / SIDE))); // how large each is drawn
  const pictures = [...row.querySelectorAll(".view img")].map((image) => {
    // A whole number of the screen's pixels for each of the picture's: anything else makes a pattern of its own.
    const ratio = window.devicePixelRatio || 1, natural = image.width / image.dataset.factor;
    const factor = Math.max(1, Math.round(image.dataset.factor * ratio)) / ratio;
    const height = image.height / image.dataset.factor;
    image.style.width = natural * factor + "px";
    image.style.height = height * factor + "px";
    const frame = document.createElement("div"), box = document.createElement("div"), lens = document.createElement("canvas");
    frame.className = "frame"; box.className = "box"; lens.className = "lens";
    image.replaceWith(frame); frame.append(image, box);
    frame.parentElement.after(lens);
    lens.width = lens.height = SIDE * CELL;
    lens.style.width = SIDE * CELL + "px";
    lens.tabIndex = 0;
    lens.setAttribute("role", "img");
    lens.setAttribute("aria-label", "Enlarged part of: " + image.alt + ". Arrow keys move it in all pictures of this row.");
    return { image, frame, box, lens, factor, width: natural, height };
  });
  if (!pictures.length) continue;
  let place = [0.5, 0.5]; // of the middle, as a share of width and height

  const draw = () => {
    for (const p of pictures) {
      const across = Math.min(SIDE, p.width), down = Math.min(SIDE, p.height);
      const x = Math.round(Math.min(Math.max(place[0] * p.width - across / 2, 0), p.width - across));
      const y = Math.round(Math.min(Math.max(place[1] * p.height - down / 2, 0), p.height - down));
      const pen = p.lens.getContext("2d");
      pen.imageSmoothingEnabled = false;
      pen.clearRect(0, 0, SIDE * CELL, SIDE * CELL);
      pen.drawImage(p.image, x, y, across, down, 0, 0, across * CELL, down * CELL);
      pen.strokeStyle = "rgba(128,128,128,.45)";
      pen.lineWidth = 1;
      pen.beginPath();
      for (let n = 0; n <= across; n++) { pen.moveTo(n * CELL + .5, 0); pen.lineTo(n * CELL + .5, down * CELL); }
      for (let n = 0; n <= down; n++) { pen.moveTo(0, n * CELL + .5); pen.lineTo(across * CELL, n * CELL + .5); }
      pen.stroke();
      Object.assign(p.box.style, {
        left: x * p.factor + "px", top: y * p.factor + "px", width: across * p.factor + "px", height: down * p.factor + "px",
      });
    }
  };
  const move = (x, y) => { place = [Math.min(1, Math.max(0, x)), Math.min(1, Math.max(0, y))]; draw(); };
  for (const p of pictures) {
    const follow = (event) => {
      const seen = p.image.getBoundingClientRect();
      move((event.clientX - seen.left) / seen.width, (event.clientY - seen.top) / seen.height);
    };
    p.frame.addEventListener("pointermove", follow);
    p.frame.addEventListener("pointerdown", follow);
    p.lens.addEventListener("keydown", (event) => {
      const step = (event.shiftKey ? 8 : 1), keys = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
      const way = keys[event.key];
      if (!way) return;
      event.preventDefault();
      const next = [p.width, p.height].map((side, axis) => {
        const edge = Math.min(.5, SIDE / 2 / side);
        return Math.min(Math.max(place[axis], edge), 1 - edge) + way[axis] * step / side;
      });
      move(...next);
    });
    p.image.decode().then(draw, draw);
  }
  if (document.querySelector(".hint")) continue; // said once
  const hint = document.createElement("p");
  hint.className = "hint note";
  hint.textContent = "Point at a picture, touch it, or use the arrow keys on an enlargement: all pictures of the row show the same place, " + SIDE + " pixels wide.";
  row.querySelector(".pictures").before(hint);
}
