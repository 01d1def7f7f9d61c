// The picture: upload, masks over it, boxes and clicks, the list of what was found.
flmm.parts.push((() => {
  const {known, state, t, $, $$, make, send, draw, toast, keyOf, colorOf, inkOn, warm, tinted, walkable} = flmm;
  const images = new Map();  // address -> Image
  let canvas, drag = null;

  // an image of an address; draws again once it is decoded
  function image(url) {
    if (!images.has(url)) {
      if (images.size > 200) images.clear();
      const found = new Image();
      found.onload = paint;
      found.src = url;
      images.set(url, found);
    }
    const found = images.get(url);
    return found.complete && found.naturalWidth ? found : null;
  }

  const channels = (color) => color.match(/\d+/g).map(Number);
  const masked = (color) => (level) => [...color, level > 200 ? 255 : level > 60 ? Math.round(255 * state.opacity) : 0];
  const peaked = (level) => (level / 255) ** 1.6;  // lets through what is below
  const glowing = (color) => (level) => [...color, Math.round(255 * peaked(level) * Math.min(1, 0.45 + state.opacity))];
  const hot = (level) => [...warm(level), Math.round(255 * Math.min(0.95, (0.2 + 0.8 * peaked(level)) * (0.5 + state.opacity)))];
  const sheetOf = (url, shade) => { const source = image(url); return source && tinted(source, shade); };

  const shownMarks = () => state.marks.filter((mark) => state.wanted.has(keyOf(mark.source, mark.phrase)));

  function paint() {
    const shown = state.pictures.shown;
    $(".drop").hidden = Boolean(shown);
    canvas.hidden = !shown;
    if (!shown) return;
    const photo = image(shown.url);
    const room = $(".stage").clientWidth, most = Math.min(window.innerHeight * (window.innerWidth < 860 ? 0.36 : 0.62), 720);
    const scale = Math.min(room / shown.width, most / shown.height);
    const width = Math.max(1, Math.round(shown.width * scale)), height = Math.max(1, Math.round(shown.height * scale));
    const dense = window.devicePixelRatio || 1;
    Object.assign(canvas, {width: width * dense, height: height * dense});
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    const pen = canvas.getContext("2d");
    pen.scale(dense, dense);
    if (!photo) return;
    const marks = shownMarks(), heat = state.tab === "heads" ? state.heat : null;
    pen.filter = (marks.length && state.view !== "image") || heat ? "grayscale(0.75) brightness(1.05)" : "none";
    pen.drawImage(photo, 0, 0, width, height);
    pen.filter = "none";
    if (heat) lay(pen, sheetOf(heat.map, hot), width, height);
    else if (state.view !== "image") for (const mark of marks) overlay(pen, mark, marks.length, width, height);
    if ((state.tab === "region" || drag) && state.region) region(pen, scale, width, height);
    const labels = [];  // places that are taken
    if (!heat && state.view !== "attention") for (const mark of marks) frame(pen, mark, scale, labels);
  }

  function region(pen, scale, width, height) {
    if (state.regionWords && state.region.point) lay(pen, sheetOf(state.regionWords.mask, masked([255, 255, 255])), width, height);
    if (state.region.box) rectangle(pen, state.region.box.map((side) => side * scale));
  }

  function overlay(pen, mark, count, width, height) {
    const color = channels(colorOf(mark.number));
    if (state.view === "attention") lay(pen, sheetOf(mark.attention, count === 1 ? hot : glowing(color)), width, height);
    else lay(pen, sheetOf(mark[state.view], masked(color)), width, height);
  }

  function lay(pen, sheet, width, height) {
    if (!sheet) return;
    pen.imageSmoothingQuality = "high";
    pen.drawImage(sheet, 0, 0, width, height);
  }

  // box, number and score: a mask is known by its number, not by its color alone
  function frame(pen, mark, scale, labels) {
    const [x0, y0, x1, y1] = mark.box.map((side) => side * scale);
    if (x1 <= x0) return;
    const color = colorOf(mark.number), words = `${mark.number}  ${mark.score.toFixed(2)}`;
    pen.lineWidth = 2;
    pen.setLineDash([6, 4]);
    pen.strokeStyle = color;
    pen.strokeRect(x0 + 1, y0 + 1, Math.max(1, x1 - x0 - 2), Math.max(1, y1 - y0 - 2));
    pen.setLineDash([]);
    pen.font = "600 13px system-ui, sans-serif";
    const length = pen.measureText(words).width + 12, x = Math.max(0, Math.min(x0, pen.canvas.clientWidth - length));
    let y = Math.max(0, y0 - 20);
    while (labels.some((other) => Math.abs(other.y - y) < 21 && x < other.x + other.length && other.x < x + length)) y += 21;
    labels.push({x, y, length});
    pen.fillStyle = color;
    pen.beginPath();
    pen.roundRect(x, y, length, 20, 5);
    pen.fill();
    pen.fillStyle = inkOn(color);
    pen.fillText(words, x + 6, y + 14.5);
  }

  function rectangle(pen, [x0, y0, x1, y1]) {
    for (const [color, shift] of [["#000", 0], ["#fff", 5]]) {
      pen.strokeStyle = color;
      pen.lineWidth = 2;
      pen.setLineDash([5, 5]);
      pen.lineDashOffset = shift;
      pen.strokeRect(x0, y0, x1 - x0, y1 - y0);
    }
    pen.setLineDash([]);
  }

  // place of a pointer in pixels of the picture
  function place(event) {
    const shown = state.pictures.shown, area = canvas.getBoundingClientRect();
    const x = (event.clientX - area.left) / area.width * shown.width, y = (event.clientY - area.top) / area.height * shown.height;
    return [Math.min(Math.max(x, 0), shown.width), Math.min(Math.max(y, 0), shown.height)];
  }

  function listen() {
    canvas.addEventListener("pointerdown", (event) => {
      drag = {from: place(event), x: event.clientX, y: event.clientY};
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!drag || Math.hypot(event.clientX - drag.x, event.clientY - drag.y) < 6) return;
      state.region = {box: boxOf(drag.from, place(event))};
      paint();
    });
    canvas.addEventListener("pointerup", (event) => {
      if (!drag) return;
      const moved = Math.hypot(event.clientX - drag.x, event.clientY - drag.y) >= 6;
      choose(moved ? {box: boxOf(drag.from, place(event))} : {point: place(event).map(Math.floor)});
      drag = null;
    });
    canvas.addEventListener("pointercancel", () => { drag = null; });
  }

  const boxOf = ([x, y], [u, v]) => [Math.min(x, u), Math.min(y, v), Math.max(x, u), Math.max(y, v)].map(Math.round);

  function choose(region) {
    if (region.box && (region.box[2] <= region.box[0] || region.box[3] <= region.box[1])) return;
    Object.assign(state, {region, regionWords: null, hidden: null, tab: "region"});
    if (state.source) send("region", {...region, source: state.source});
    else {
      toast(t("nothing_said"));
      draw("tab");
    }
  }

  function take(file) {
    if (!file) return;
    const megabytes = file.size / 2 ** 20;
    if (megabytes > known.limits.upload_megabytes) {
      toast(t("refused_large", {count: megabytes.toFixed(1), most: known.limits.upload_megabytes}));
      return;
    }
    const reader = new FileReader();
    reader.onload = () => send("open", {url: reader.result.replace(/^data:[^,]*?(;base64)?,/, "data:;base64,"), add: $("[name=beside]").checked});
    reader.readAsDataURL(file);
  }

  function receiveFiles() {
    $("[name=file]").addEventListener("change", (event) => { take(event.target.files[0]); event.target.value = ""; });
    $(".drop").addEventListener("click", () => $("[name=file]").click());
    const page = $(".page");
    page.addEventListener("dragover", (event) => { event.preventDefault(); page.classList.add("over"); });
    page.addEventListener("dragleave", () => page.classList.remove("over"));
    page.addEventListener("drop", (event) => { event.preventDefault(); page.classList.remove("over"); take(event.dataTransfer.files[0]); });
    document.addEventListener("paste", (event) => take([...event.clipboardData.files].find((file) => file.type.startsWith("image/"))));
  }

  function strip() {
    const shown = state.pictures.shown;
    $(".thumbs").replaceChildren(...state.pictures.strip.map(({room, picture, thumb}) => {
      const here = shown && shown.room === room && shown.picture === picture;
      const number = `${room + 1}${picture ? `.${picture + 1}` : ""}`;
      return make("span", {class: here ? "thumb here" : "thumb"},
        make("button", {type: "button", "aria-current": here ? "true" : false, "aria-label": `${t("pictures")} ${number}`, onclick: () => send("select", {room, picture})}, make("img", {src: thumb, alt: ""})),
        make("button", {type: "button", class: "close", "aria-label": `${t("close")} ${number}`, onclick: () => send("close", {room})}, "×"));
    }));
    $(".beside").hidden = !known.several || !shown;
    $(".examples").hidden = !known.examples.length;
    if (!$(".tiles").children.length) $(".tiles").replaceChildren(...known.examples.map((url, example) =>
      make("button", {type: "button", "aria-label": `${t("examples")} ${example + 1}`, onclick: () => send("open", {example, add: $("[name=beside]").checked})}, make("img", {src: url, alt: ""}))));
  }

  function legend() {
    const rows = state.marks.map((mark) => {
      const key = keyOf(mark.source, mark.phrase), on = state.wanted.has(key);
      const toggle = () => { state.wanted[on ? "delete" : "add"](key); draw("marks"); };
      return make("li", {}, make("button", {type: "button", class: "mark", title: t("figures", {score: mark.score.toFixed(2), box: mark.box.map(Math.round).join(" ")}), "aria-pressed": String(on), style: `--color: ${colorOf(mark.number)}; --on: ${inkOn(colorOf(mark.number))}`, onclick: toggle},
        make("b", {}, String(mark.number)), make("span", {class: "words"}, mark.phrase.text), make("em", {}, mark.score.toFixed(2))));
    });
    $(".legend").replaceChildren(...(rows.length ? rows : [make("li", {class: "help"}, t("nothing_found"))]));
  }

  return {
    start() {
      canvas = $(".stage canvas");
      listen();
      receiveFiles();
      for (const button of $$("[data-view]")) button.addEventListener("click", () => { state.view = button.dataset.view; draw("view"); });
      walkable(".segments", "[data-view]");
      $("[name=opacity]").addEventListener("input", (event) => { state.opacity = event.target.value / 100; paint(); });
      new ResizeObserver(paint).observe($(".stage"));
    },
    draw(changed) {
      for (const button of $$("[data-view]")) {
        button.setAttribute("aria-checked", String(button.dataset.view === state.view));
        button.tabIndex = button.dataset.view === state.view ? 0 : -1;
      }
      if (changed !== "talk") { strip(); legend(); paint(); }
    },
  };
})());
