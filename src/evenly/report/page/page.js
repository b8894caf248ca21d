"use strict";
document.documentElement.classList.add("js");

// A whole number of the screen's pixels for each of the picture's, as many as there is room for: anything else makes a
// pattern of its own.
const fit = (image, room) => {
  const ratio = window.devicePixelRatio || 1, shown = Number(image.dataset.factor);
  const width = image.width / shown, height = image.height / shown;
  const wanted = Math.min(Math.round(shown * ratio), Math.floor(room * ratio / width));
  const factor = Math.max(1, wanted) / ratio;
  image.style.width = width * factor + "px";
  image.style.height = height * factor + "px";
  return { width, height, factor };
};

// Pictures of one row: under each the same place, enlarged pixel by pixel.
for (const row of document.querySelectorAll(".magnified")) {
  const SIDE = 24; // pixels of the picture that are seen
  const CELL = Math.max(6, Math.min(12, Math.floor((row.clientWidth - 4) / SIDE))); // how large each is drawn
  const pictures = [...row.querySelectorAll(".view img")].map((image) => {
    const { width, height, factor } = fit(image, row.clientWidth);
    const frame = document.createElement("div"), box = document.createElement("div"), lens = document.createElement("canvas");
    frame.className = "held"; box.className = "box"; lens.className = "lens";
    image.replaceWith(frame); frame.append(image, box);
    const glass = document.createElement("div");
    glass.className = "glass";
    frame.parentElement.replaceWith(glass); glass.append(frame, lens);
    lens.width = lens.height = SIDE * CELL;
    lens.tabIndex = 0;
    lens.setAttribute("role", "img");
    lens.setAttribute("aria-label", "Enlarged: " + image.alt + ". Arrow keys move it.");
    return { image, frame, box, lens, factor, width, height };
  });
  let place = [Number(row.dataset.x), Number(row.dataset.y)]; // of the middle, as shares of width and height

  const draw = () => {
    for (const p of pictures) {
      const across = Math.min(SIDE, p.width), down = Math.min(SIDE, p.height);
      const x = Math.round(Math.min(Math.max(place[0] * p.width - across / 2, 0), p.width - across));
      const y = Math.round(Math.min(Math.max(place[1] * p.height - down / 2, 0), p.height - down));
      const pen = p.lens.getContext("2d");
      pen.imageSmoothingEnabled = false;
      pen.clearRect(0, 0, SIDE * CELL, SIDE * CELL);
      pen.drawImage(p.image, x, y, across, down, 0, 0, across * CELL, down * CELL);
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
      const keys = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }, way = keys[event.key];
      if (!way) return;
      event.preventDefault();
      move(...[p.width, p.height].map((side, axis) => {
        const edge = Math.min(.5, SIDE / 2 / side);
        return Math.min(Math.max(place[axis], edge), 1 - edge) + way[axis] * (event.shiftKey ? 8 : 1) / side;
      }));
    });
    p.image.decode().then(draw, draw);
  }
}

// Before and after: what the slider leaves of the picture on top.
for (const pair of document.querySelectorAll(".compare")) {
  for (const image of pair.querySelectorAll("img")) fit(image, pair.parentElement.clientWidth);
  const slider = pair.querySelector("input"), top = pair.querySelector(".before .view");
  const cut = () => {
    top.style.clipPath = "inset(0 " + (100 - slider.value) + "% 0 0)";
    slider.setAttribute("aria-valuetext", slider.value + " % before");
  };
  slider.addEventListener("input", cut);
  cut();
}

// Copying and saving.
for (const button of document.querySelectorAll("button[data-copy]")) {
  button.addEventListener("click", async () => {
    const from = button.dataset.copy ? document.querySelector(button.dataset.copy) : button.parentElement.querySelector("pre");
    const before = button.textContent;
    try { await navigator.clipboard.writeText(from.textContent); button.textContent = "Copied"; }
    catch { button.textContent = "Not allowed here"; }
    setTimeout(() => { button.textContent = before; }, 1500);
  });
}
for (const button of document.querySelectorAll("button[data-save]")) {
  button.addEventListener("click", () => {
    const text = document.getElementById("evenly-report").textContent, link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    link.download = button.dataset.save;
    link.click();
    URL.revokeObjectURL(link.href);
  });
}
