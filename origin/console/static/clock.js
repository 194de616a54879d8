// How much time has passed, whatever happens to the clocks. Pure.

/** A clock in milliseconds that never goes back. `wall` (the time of day) is set back now and then,
 * `steady` stands still while a machine sleeps: of each step the longer one counts. So a picture
 * that is an hour old is never taken for a fresh one. */
export function passing(wall, steady) {
  let last = { wall: wall(), steady: steady() };
  let now = last.wall;
  return () => {
    const next = { wall: wall(), steady: steady() };
    now += Math.max(0, next.wall - last.wall, next.steady - last.steady);
    last = next;
    return now;
  };
}
