// The tabs: a typed sentence, a region and its words, attention layer by layer.
flmm.parts.push((() => {
  const {known, state, t, $, $$, make, send, draw, toast, parts, keyOf, warm, tinted, walkable} = flmm;
  const talk = () => parts[1];
  const LEFT = 26, TOP = 20;  // room for the numbers of layers and heads, in pixels
  const PLACES = {region: ".region", hidden: ".hidden", look: ".looked", heads: ".multiples"};  // what came is scrolled to
  let timer = null, spoken = 0;

  const texts = () => [...state.talk.turns, ...state.talk.sentences].filter((one) => one.source);
  const current = () => texts().find((one) => String(one.source) === String(state.source));

  function sources() {
    const select = $("[name=source]");
    select.replaceChildren(...texts().map((one) => make("option", {value: String(one.source), selected: String(one.source) === String(state.source)}, one.text.length > 60 ? `${one.text.slice(0, 58)}…` : one.text)));
    $(".about").hidden = texts().length < 2 || state.tab === "sentence";
  }

  function tabs() {
    for (const tab of $$("[data-tab]")) {
      const on = tab.dataset.tab === state.tab;
      tab.setAttribute("aria-selected", String(on));
      tab.tabIndex = on ? 0 : -1;
      $(`#panel-${tab.dataset.tab}`).hidden = !on;
    }
  }

  // the pieces of a text as spans, each shaded by what was measured of its token
  function shaded(words, tokens, shade, title) {
    const nodes = [];
    let place = 0;
    for (const token of tokens) {
      if (token.end <= place) continue;
      const start = Math.max(token.start, place);
      nodes.push(words.slice(place, start));
      nodes.push(make("span", {class: "token", title: title(token), style: shade(token)}, words.slice(start, token.end)));
      place = token.end;
    }
    return make("p", {class: "text shaded"}, ...nodes, words.slice(place));
  }

  const alpha = (color, strength) => `background: rgb(${color} / ${(0.6 * Math.min(1, Math.max(0, strength))).toFixed(3)})`;
  const figures = (one) => `${t("share")} ${(100 * one.share).toFixed(1)} %, ${one.lift.toFixed(2)} ×${one.z === null ? "" : `, z ${one.z.toFixed(1)}`}`;

  function region() {
    const found = state.regionWords;
    if (!found) { $(".region").replaceChildren(); return; }
    const measure = (one) => state.measure === "share" ? one.share : Math.max(0, one.lift - 1);
    const visible = found.tokens.filter((one) => one.text.trim()), most = Math.max(...visible.map(measure), 1e-9);
    const choices = ["lift", "share"].map((name) => make("button", {type: "button", role: "radio", "aria-checked": String(state.measure === name), onclick: () => { state.measure = name; draw("region"); }}, t(name)));
    const rows = found.phrases.slice(0, 5).map((one) => make("li", {}, make("span", {}, one.text), make("meter", {min: 0, max: Math.max(...found.phrases.map(measure), 1e-9), value: measure(one)}), make("em", {}, state.measure === "share" ? `${(100 * one.share).toFixed(1)} %` : `${one.lift.toFixed(2)} ×`)));
    $(".region").replaceChildren(make("div", {class: "segments", role: "radiogroup"}, ...choices),
      shaded(found.text, found.tokens, (one) => alpha("0 114 178", one.text.trim() ? measure(one) / most : 0), figures),
      make("ol", {class: "ranked"}, ...rows));
  }

  function hidden() {
    const found = state.hidden;
    if (!found) { $(".hidden").replaceChildren(); return; }
    const most = Math.max(...found.tokens.map((one) => Math.abs(one.change)), 1e-9);
    const shade = (one) => alpha(one.change < 0 ? "213 94 0" : "86 180 233", Math.abs(one.change) / most);
    const signed = (one) => `${one.change > 0 ? "+" : ""}${one.change.toFixed(2)}`;
    const rows = [...found.tokens].filter((one) => one.text.trim()).sort((a, b) => a.change - b.change).slice(0, 4);
    $(".hidden").replaceChildren(make("p", {class: "help"}, t("hidden")),
      make("div", {class: "pair"}, make("img", {src: found.picture, alt: ""}),
        make("div", {}, shaded(found.text, found.tokens, shade, (one) => `log p ${signed(one)}`),
          make("p", {class: "changes"}, ...rows.map((one) => make("span", {}, `${one.text.trim()} `, make("b", {}, signed(one))))))));
  }

  function looked() {
    const found = state.look;
    if (!found) { $(".looked").replaceChildren(); return; }
    const card = (title, words, ...rest) => make("div", {class: "answer"}, make("h4", {}, t(title)), ...rest, make("p", {}, words));
    $(".looked").replaceChildren(make("div", {class: "answers"}, card("first", found.first), card("second", found.second, make("img", {src: found.crop, alt: ""}))));
  }

  const boxNow = () => state.region && (state.region.box || (state.regionWords && around(state.regionWords.mask)));
  // a mask that was clicked has the box of its mark
  function around() {
    const [x, y] = state.region.point;
    const inside = state.marks.filter(({box}) => box[0] <= x && x < box[2] && box[1] <= y && y < box[3]);
    inside.sort((a, b) => (a.box[2] - a.box[0]) * (a.box[3] - a.box[1]) - (b.box[2] - b.box[0]) * (b.box[3] - b.box[1]));
    return inside.length ? inside[0].box : null;
  }

  const numberOf = (name) => { const value = Number($(`[name=${name}]`).value); return value < 0 ? "mean" : value; };
  const phraseOf = () => { const value = $("[name=phrase]").value; return value ? value.split(" ").map(Number) : null; };

  function heat() {
    clearTimeout(timer);
    timer = setTimeout(() => { if (state.source) send("heat", {source: state.source, phrase: phraseOf(), layer: numberOf("layer"), head: numberOf("head")}); }, 150);
    said();
  }

  function said() {
    for (const [name, count] of [["layer", known.layers], ["head", known.heads]]) {
      const value = numberOf(name);
      $(`[name=${name}-is]`).textContent = value === "mean" ? t("mean") : `${value} (0–${count - 1})`;
    }
    const text = current(), select = $("[name=phrase]"), kept = select.value;
    const phrases = text ? text.phrases : [];
    select.replaceChildren(make("option", {value: ""}, t("whole")), ...phrases.map((one) => make("option", {value: `${one.start} ${one.end}`}, one.text)));
    if ([...select.options].some((one) => one.value === kept)) select.value = kept;
    const found = state.heat;
    $(".peak").textContent = found ? t("peak", {text: phraseOf() ? found.text : t("whole"), lift: found.lift.toFixed(1), share: `${(100 * found.attention).toFixed(1)} %`}) : "";
  }

  // small multiples: numbers of heads above, of layers at the left
  function multiples() {
    const found = state.heads, box = $(".multiples");
    box.hidden = !found;
    if (!found) return;
    const canvas = box.querySelector("canvas"), picture = new Image();
    picture.onload = () => {
      const scale = (Math.min(720, box.clientWidth || 600) - LEFT) / picture.width, dense = window.devicePixelRatio || 1;
      const width = picture.width * scale, height = picture.height * scale;
      Object.assign(canvas, {width: (LEFT + width) * dense, height: (TOP + height) * dense});
      canvas.style.width = `${LEFT + width}px`;
      const pen = canvas.getContext("2d"), paint = getComputedStyle(canvas);
      pen.scale(dense, dense);
      const w = width / found.heads, h = height / found.layers;
      pen.imageSmoothingEnabled = false;
      pen.drawImage(tinted(picture, (level) => [...warm(level), 255]), LEFT, TOP, width, height);
      pen.fillStyle = paint.backgroundColor;
      for (let head = 1; head < found.heads; head++) pen.fillRect(LEFT + head * w - 1, TOP, 2, height);
      for (let layer = 1; layer < found.layers; layer++) pen.fillRect(LEFT, TOP + layer * h - 1, width, 2);
      Object.assign(pen, {fillStyle: paint.color, font: "12px system-ui, sans-serif", textAlign: "center", textBaseline: "middle"});
      const each = (size, least) => Math.ceil(least / size);
      for (let head = 0; head < found.heads; head += each(w, 18)) pen.fillText(head, LEFT + (head + 0.5) * w, TOP / 2);
      for (let layer = 0; layer < found.layers; layer += each(h, 14)) pen.fillText(layer, LEFT / 2, TOP + (layer + 0.5) * h);
      const ring = ([layer, head], color) => { pen.strokeStyle = color; pen.lineWidth = 3; pen.strokeRect(LEFT + head * w + 1.5, TOP + layer * h + 1.5, w - 3, h - 3); };
      ring(found.sharpest, "rgb(86, 180, 233)");
      const chosen = [numberOf("layer"), numberOf("head")];
      if (!chosen.includes("mean")) ring(chosen, "#fff");
    };
    picture.src = found.maps;
  }

  function chooseMap(event) {
    const area = event.target.getBoundingClientRect(), {layers, heads} = state.heads;
    const x = event.clientX - area.left - LEFT, y = event.clientY - area.top - TOP;
    if (x < 0 || y < 0) return;
    $("[name=layer]").value = Math.floor(y / (area.height - TOP) * layers);
    $("[name=head]").value = Math.floor(x / (area.width - LEFT) * heads);
    heat();
  }

  function listen() {
    for (const tab of $$("[data-tab]")) tab.addEventListener("click", () => { state.tab = tab.dataset.tab; draw("tab"); if (state.tab === "heads" && !state.heat) heat(); });
    walkable(".tabs", "[data-tab]");
    $("[name=source]").addEventListener("change", (event) => {
      state.source = texts().find((one) => String(one.source) === event.target.value).source;
      if (state.tab === "region" && state.region) send("region", {...state.region, source: state.source});
      if (state.tab === "heads") heat();
    });
    $("form.say").addEventListener("submit", (event) => { event.preventDefault(); spoken = state.talk.sentences.length + 1; send("say", {text: $("[name=sentence]").value, phrases: $("[name=phrases]").value}); });
    $("form.box").addEventListener("submit", (event) => {
      event.preventDefault();
      const typed = $("[name=coordinates]").value.trim(), box = typed.split(/[\s,;]+/).map(Number);
      if (typed && (box.length !== 4 || !box.every(Number.isFinite))) return toast(t("no_region"));
      if (typed) Object.assign(state, {region: {box}, hidden: null});
      if (!state.source) return toast(t("nothing_said"));
      if (!state.region) return toast(t("no_region"));
      send("region", {...state.region, source: state.source});
    });
    $("[data-act=hide]").addEventListener("click", () => send("hide", {...(state.region || {}), source: state.source}));
    $("[data-act=look]").addEventListener("click", () => send("look", {box: boxNow(), source: state.source}));
    for (const name of ["layer", "head", "phrase"]) $(`[name=${name}]`).addEventListener("input", heat);
    $("[data-act=grid]").addEventListener("click", () => send("heads", {source: state.source, phrase: phraseOf()}));
    $(".multiples canvas").addEventListener("click", chooseMap);
  }

  return {
    start() {
      $("[name=layer]").max = known.layers - 1;
      $("[name=head]").max = known.heads - 1;
      $("[name=sentence]").maxLength = known.limits.characters;
      listen();
    },
    draw(changed) {
      if (changed === "talk" && spoken && state.talk.sentences.length >= spoken) {  // what was just typed is shown at once
        const last = state.talk.sentences.at(-1);
        for (const phrase of last.phrases) state.wanted.add(keyOf(last.source, phrase));
        state.source = last.source;
        spoken = 0;
        setTimeout(() => draw("marks"));
      }
      tabs();
      sources();
      $(".sentences").replaceChildren(...[...state.talk.sentences].reverse().flatMap((one) => [talk().text(one), ...talk().unread(one)]));
      if (state.region && state.region.box) $("[name=coordinates]").value = state.region.box.join(" ");
      region();
      hidden();
      looked();
      said();
      if (!changed || ["heads", "heat", "tab"].includes(changed)) multiples();
      if (PLACES[changed]) setTimeout(() => $(PLACES[changed]).scrollIntoView({block: "nearest"}), 100);  // once its pictures are in
    },
  };
})());
