"""The obvious version of every kernel: plain Python over one event, one cell or one word at a time."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np

from tmkt_data.errors import EventError
from tmkt_data.events.events import Events

MASK_32 = (1 << 32) - 1
MASK_64 = (1 << 64) - 1


def make_events(rows, sensor_size=None):
    """Events from (t, x, y, p) tuples, sorted stably by time."""
    rows = sorted(rows, key=lambda row: row[0])
    return Events(
        t=np.array([row[0] for row in rows], np.int64),
        x=np.array([row[1] for row in rows], np.uint16),
        y=np.array([row[2] for row in rows], np.uint16),
        p=np.array([row[3] for row in rows], np.bool_),
        sensor_size=sensor_size,
        num_read=len(rows),
    )


def rows_of(events):
    return [
        (int(t), int(x), int(y), bool(p)) for t, x, y, p in zip(events.t, events.x, events.y, events.p, strict=True)
    ]


def decode_atis(data, width, height):
    """Rows in file order, and how many events lie outside; by arithmetic on one 40-bit number."""
    rows, outside = [], 0
    for at in range(0, len(data), 5):
        word = int.from_bytes(data[at : at + 5], "big")
        x, y, p, t = word >> 32, word >> 24 & 0xFF, word >> 23 & 1, word & 0x7FFFFF
        if x >= width or y >= height:
            outside += 1
        else:
            rows.append((t, x, y, p == 1))
    return rows, outside


def unwrap(times, clock_range):
    """Times of a clock that begins anew, counted on; and how often it did."""
    half, rounds, out = clock_range // 2, 0, []
    for i, t in enumerate(times):
        before, last = times[max(i - 2, 0)], times[max(i - 1, 0)]
        is_ahead = last > before + half
        is_late = is_ahead and before < 20_000 and last >= clock_range - 20_000
        if t < last - half and not (is_ahead and not is_late and t >= before):
            rounds += 1
        elif t > last + half and last < 20_000 and t >= clock_range - 20_000:
            rounds = max(rounds - 1, 0)
        out.append(t + rounds * clock_range)
    return out, rounds


def unwrapped(rows, clock_range):
    """The same of the first column of rows."""
    times, rounds = unwrap([row[0] for row in rows], clock_range)
    return [(t, *row[1:]) for t, row in zip(times, rows, strict=True)], rounds


def encode_atis(rows):
    return b"".join((x << 32 | y << 24 | int(p) << 23 | t).to_bytes(5, "big") for t, x, y, p in rows)


def refractory(rows, period):
    last, kept = {}, []
    for t, x, y, p in rows:
        if (x, y) not in last or t - last[x, y] >= period:
            last[x, y] = t
            kept.append((t, x, y, p))
    return kept


def supported(rows, window):
    return [
        row
        for at, row in enumerate(rows)
        if any(max(abs(row[1] - x), abs(row[2] - y)) == 1 and row[0] - t <= window for t, x, y, _ in rows[:at])
    ]


def num_inversions(rows):
    return sum(later[0] < earlier[0] for earlier, later in pairwise(rows))


def bin_of(t, t_first, t_last, num_bins, rule):
    """The bin of one event, or None where the rule drops it."""
    span = t_last - t_first
    if rule == "exact":
        return (t - t_first) * num_bins // (span + 1)
    width = span // num_bins
    if rule == "spikingjelly":
        return num_bins - 1 if width == 0 else min(num_bins - 1, (t - t_first) // width)
    if width == 0 or t >= t_first + num_bins * width:
        return None
    return (t - t_first) // width


def axis_matrix(source, target, rule):
    """What one event at each source coordinate adds to each target cell: (target, source) of Fractions as float64."""
    matrix = np.zeros((target, source))
    for cell in range(target):
        for s, weight in _cell_weights(cell, source, target, rule).items():
            matrix[cell, s] = float(weight)
    return matrix


def _cell_weights(cell, source, target, rule):
    if rule == "sum":
        return {s: 1 for s in range(source) if Fraction(s, source) // Fraction(1, target) == cell}
    if rule == "area":
        low, high = Fraction(cell * source, target), Fraction((cell + 1) * source, target)
        touched = [s for s in range(source) if s < high and s + 1 > low]
        return {s: Fraction(1, len(touched)) for s in touched}
    position = Fraction(cell * (source - 1), target - 1) if target > 1 else Fraction(0)
    return {s: 1 - abs(position - s) for s in range(source) if abs(position - s) < 1}


def canvas_of(rows, canvas, sensor_size):
    if canvas == "fixed":
        return 0, 0, sensor_size.width, sensor_size.height
    xs, ys = [row[1] for row in rows], [row[2] for row in rows]
    if canvas == "max":
        return 0, 0, max(xs) + 1, max(ys) + 1
    return min(xs), min(ys), max(xs) - min(xs) + 1, max(ys) - min(ys) + 1


def event_frames(events, num_bins, height, width, bin_rule, canvas, resize, representation, sensor_size):
    """Frames at the size of the canvas first, resized by matrices second, float64; and the events in no bin."""
    rows = rows_of(events)
    channels = 2 if representation == "counts" else 1
    if not rows:
        return np.zeros((num_bins, channels, height, width)), 0
    x_first, y_first, box_width, box_height = canvas_of(rows, canvas, sensor_size)
    native = np.zeros((num_bins, channels, box_height, box_width))
    dropped = 0
    t_first, t_last = rows[0][0], rows[-1][0]
    for t, x, y, p in rows:
        at = (y - y_first, x - x_first)
        if representation == "counts":
            k = bin_of(t, t_first, t_last, num_bins, bin_rule)
            if k is None:
                dropped += 1
            else:
                native[k, int(p), *at] += 1
        else:
            for k, share in enumerate(voxel_shares(t, t_first, t_last, num_bins)):
                native[k, 0, *at] += float(share) * (1 if p else -1)
    down = axis_matrix(box_height, height, resize)
    across = axis_matrix(box_width, width, resize)
    return np.einsum("hr,tcrs,ws->tchw", down, native, across), dropped


def voxel_shares(t, t_first, t_last, num_bins):
    """The triangle kernel of Zhu et al. 2019: max(0, 1 - |bin - t*|), exactly."""
    span = t_last - t_first
    position = Fraction((t - t_first) * (num_bins - 1), span) if span else Fraction(0)
    return [max(Fraction(0), 1 - abs(k - position)) for k in range(num_bins)]


def random_words(x, y, z, w):
    """pcg4d of Jarzynski and Olano 2020 and a last shift, in whole numbers modulo 2**32."""
    v = [(word * 1664525 + 1013904223) & MASK_32 for word in (x, y, z, w)]
    for _ in range(2):
        for i, j, k in ((0, 1, 3), (1, 2, 0), (2, 0, 1), (3, 1, 2)):
            v[i] = (v[i] + v[j] * v[k]) & MASK_32
        v = [word ^ word >> 16 for word in v]
    return tuple(v)


def poisson_frames(intensities, num_time_bins, num_channels, key):
    """16 bits decide one pixel: a spike where they lie below 65536 * intensity / 255, rounded half up."""
    flat = [int(value) for value in intensities.ravel()]
    limits = [math.floor(Fraction(value * 65536, 255) + Fraction(1, 2)) for value in flat]
    spikes = []
    for frame in range(num_time_bins * num_channels):
        for pixel, limit in enumerate(limits):
            block, rest = divmod(pixel, 128)
            half, lane = divmod(rest, 16)
            word = random_words(16 * block + lane, frame, key & MASK_32, key >> 32)[half // 2]
            spikes.append(float((word & 0xFFFF if half % 2 else word >> 16) < limit))
    return np.array(spikes, np.float32).reshape(num_time_bins, num_channels, *intensities.shape)


def poisson_counts(rates, num_frames, key):
    """The 16 bits of `poisson_frames` as a draw of each pixel: how many counts have a probability below it."""
    counts = []
    for frame in range(num_frames):
        for pixel, rate in enumerate(rates):
            block, rest = divmod(pixel, 128)
            half, lane = divmod(rest, 16)
            word = random_words(16 * block + lane, frame, key & MASK_32, key >> 32)[half // 2]
            draw, count, share = word & 0xFFFF if half % 2 else word >> 16, 0, math.exp(-rate)
            reached = share
            while draw >= round(65536 * reached):
                count += 1
                share *= rate / count
                reached += share
            counts.append(count)
    return np.array(counts, np.int16).reshape(num_frames, -1)


def triangle_shares(extent, targets):
    """Share of each pixel in each target: height of a triangle over its middle, as fractions that add up to 1."""
    step = Fraction(extent) / targets
    reach = max(step, Fraction(1))
    table = []
    for target in range(targets):
        middle = (target + Fraction(1, 2)) * step
        heights = [
            max(Fraction(0), 1 - abs(pixel + Fraction(1, 2) - middle) / reach) for pixel in range(math.ceil(extent))
        ]
        table.append([height / sum(heights) for height in heights])
    return table


def axis_weights(extent, cells, place=None):
    """Weight of each pixel in each cell, whole numbers: running sums of shares, rounded to 14 bits."""
    shares = triangle_shares(extent, cells)
    if place is not None:
        image = triangle_shares(extent, place.span)
        seen = [at for at in range(len(image)) if 0 <= place.start + at < place.canvas]
        shares = [
            [sum(row[place.start + at] * image[at][pixel] for at in seen) for pixel in range(len(image[0]))]
            for row in triangle_shares(place.canvas, cells)
        ]
    table = []
    for row in shares:
        sums = [int(sum(row[:end]) * 2**14 + Fraction(1, 2)) for end in range(len(row) + 1)]
        table.append([after - before for before, after in pairwise(sums)])
    return table


def fill_frame(pixels, rows, columns, channel):
    """Weigh rows, keep 15 bits; weigh columns, keep a byte; take the channel. One cell at a time."""
    frame = np.zeros((len(rows), len(columns)), np.uint8)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            color = []
            for c in range(3):
                line = [
                    sum(weight * int(value) for weight, value in zip(row, pixels[:, x, c], strict=True)) + 64 >> 7
                    for x in range(pixels.shape[1])
                ]
                color.append(sum(weight * value for weight, value in zip(column, line, strict=True)) + (1 << 20) >> 21)
            red, green, blue = color
            frame[i, j] = {
                "value": max(color),
                "luminance": (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16,
                "blue": blue,
            }[channel]
    return frame


def mix64(z):
    z = (z + 0x9E3779B97F4A7C15) & MASK_64
    z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & MASK_64
    z = ((z ^ z >> 27) * 0x94D049BB133111EB) & MASK_64
    return z ^ z >> 31


def draw_key(*words):
    key = mix64(words[0])
    for word in words[1:]:
        key = mix64(key ^ word)
    return key


def decodes_or_says_why(decode, place):
    """Run a decoder on whatever bytes; an error has to be one line that starts with the place."""
    try:
        return decode()
    except EventError as problem:
        text = str(problem)
    assert text.startswith((f"{place}: ", f"{place}, ")), text
    assert "\n" not in text, text
    return None


def moved(levels, box, row, column, step):
    """Log intensity that a cell sees of an image moved by a step; float32, one operation at a time."""
    top, bottom, left, right = box
    across, down = -np.float32(step[0]), -np.float32(step[1])
    x, y = math.floor(across), math.floor(down)
    across, down = np.float32(across - np.float32(x)), np.float32(down - np.float32(y))

    def at(r, c):
        return levels[min(max(r, top), bottom - 1)][min(max(c, left), right - 1)]

    lines = []
    for r in (row + y, row + y + 1):
        one, other = at(r, column + x), at(r, column + x + 1)
        lines.append(one + across * (other - one))
    return lines[0] + down * (lines[1] - lines[0])


def path_changes(levels, box, path, num_time_bins, num_channels):
    """Changes of log intensity in each bin of an image on a path, in 1 / 2048; OFF and ON, or their difference."""
    height, width = len(levels), len(levels[0])
    per_bin = (len(path) - 1) // num_time_bins
    out = np.zeros((num_time_bins, num_channels, height, width), np.int64)
    for row in range(height):
        for column in range(width):
            seen = [moved(levels, box, row, column, step) for step in path]
            for time_bin in range(num_time_bins):
                part = seen[time_bin * per_bin : (time_bin + 1) * per_bin + 1]
                brighter = np.float32(0)
                for before, after in pairwise(part):
                    brighter += max(after - before, np.float32(0))
                net = part[-1] - part[0]
                values = [net] if num_channels == 1 else [brighter - net, brighter]
                for channel, value in enumerate(values):
                    zero = 0 if num_channels == 2 else 8 * 2048
                    place = value * np.float32(2048) + np.float32(zero + 0.5)
                    last = 8 * 2048 if num_channels == 2 else 2 * 8 * 2048
                    out[time_bin, channel, row, column] = min(max(math.floor(place), 0), last) - zero
    return out


def gradient_changes(levels, box):
    """Gradient magnitude of log intensity after a 3 x 3 binomial filter, in 1 / 2048 per cell."""
    height, width = len(levels), len(levels[0])
    top, bottom, left, right = box

    def at(r, c):
        return float(levels[min(max(r, top), bottom - 1)][min(max(c, left), right - 1)])

    def smooth(r, c):
        total = 0.0
        for i in (-1, 0, 1):
            for j in (-1, 0, 1):
                total += (2 - abs(i)) * (2 - abs(j)) * at(r + i, c + j)
        return total / 16

    out = np.zeros((height, width), np.int64)
    for row in range(height):
        for column in range(width):
            across = (smooth(row, column + 1) - smooth(row, column - 1)) / 2
            along = (smooth(row + 1, column) - smooth(row - 1, column)) / 2
            size = math.sqrt(across * across + along * along)
            out[row, column] = min(math.floor(size * 2048 + 0.5), 8 * 2048)
    return out


def pixel_draw(pixel_key, number):
    return ((mix64(pixel_key ^ number) >> 11) + 0.5) * 2.0**-53


def exponential_draw(pixel_key, number):
    return max(round(-math.log(pixel_draw(pixel_key, number)) * 2.0**20), 1) * 2.0**-20


def bilinear(plane, top, left, share_x, share_y):
    upper, lower = plane[top], plane[top + 1]
    high = upper[left] + share_x * (upper[left + 1] - upper[left])
    low = lower[left] + share_x * (lower[left + 1] - lower[left])
    return high + share_y * (low - high)


def pixel_events(scene, view, circuit, own, place, pixel_key):
    """Yield (step, t, p) of one pixel of an event camera: single precision between steps, double within one."""
    step_us, follow_dark, follow_light, noise_dark, noise_light, refractory_us, jitter_us = circuit
    on, off, leak, hot = own
    row, column = place
    f4 = np.float32
    one, dt, per_dt = f4(1), f4(step_us), f4(1.0 / step_us)
    a0, a1, n0, n1 = f4(follow_dark), f4(follow_light), f4(noise_dark * step_us), f4(noise_light * step_us)
    start = pixel_draw(pixel_key, 0) - (0 if leak > 0 else 0.5)
    gap, until_noise = f4(start * float(on if start > 0 else off)), f4(exponential_draw(pixel_key, 1))
    asleep, level, number = f4(0), None, 2
    last_us = (len(view[0]) - 1) * int(step_us) - 1
    for step, (left, top, share_x, share_y) in enumerate(zip(*view, strict=True)):
        seen, light = (bilinear(plane, top + row, left + column, share_x, share_y) for plane in scene)
        if level is None:
            level = seen
            continue
        before = level
        level = before + (one - one / (one + (a0 + a1 * light))) * (seen - before)
        change, burn = (level - before) + leak * dt, (n0 + n1 * light) + hot * dt
        awake = one - min(asleep * per_dt, one)
        asleep = max(asleep - dt, f4(0))
        gap_new, noise_new = gap + awake * change, until_noise - awake * burn
        if not (gap_new < on and gap_new > -off and noise_new > 0):
            slope, rate, here, noise = (float(v) for v in (change, burn, gap, until_noise))
            slope, rate, now = slope / step_us, rate / step_us, step_us * (1 - float(awake))
            while True:
                there, wait, kind = here + slope * (step_us - now), step_us - now, ""
                if there >= float(on):
                    kind, wait = "on", (float(on) - here) / slope if here < float(on) else 0.0
                elif there <= -float(off):
                    kind, wait = "off", (-float(off) - here) / slope if here > -float(off) else 0.0
                if rate > 0 and noise <= rate * wait:
                    kind, wait = "noise", noise / rate
                if not kind:
                    gap_new = f4(min(max(there, -float(off)), float(on)))
                    noise_new = f4(max(noise - rate * (step_us - now), 0.0))
                    break
                shift = jitter_us * (2.0 * pixel_draw(pixel_key, number) - 1.0)
                is_on = pixel_draw(pixel_key, number + 1) < 0.5 if kind == "noise" else kind == "on"
                yield step, min(max(math.floor((step - 1) * step_us + now + wait + shift), 0), last_us), is_on
                noise = exponential_draw(pixel_key, number + 2) if kind == "noise" else noise - rate * wait
                here, number, now = 0.0, number + 3, now + wait + refractory_us
                if now >= step_us:
                    gap_new, noise_new, asleep = f4(0), f4(noise), f4(now - step_us)
                    break
        gap, until_noise = gap_new, noise_new


def sense_light(scene, view, circuit, mismatch, key):
    """Events (t, x, y, p) of an event camera, pixel by pixel, in the order of rows, steps, columns and time."""
    height, width = mismatch[0].shape
    found = []
    for row in range(height):
        for column in range(width):
            own = [values[row, column] for values in mismatch]
            pixel_key = mix64(key ^ (row * width + column))
            events = pixel_events(scene, view, circuit, own, (row, column), pixel_key)
            found += [((row, step, column), (t, column, row, p)) for step, t, p in events]
    return [event for _, event in sorted(found, key=lambda entry: entry[0])]
