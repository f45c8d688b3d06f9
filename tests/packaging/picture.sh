#!/usr/bin/env bash
# What draws a terminal's screen as SVG, and the picture that README shows.
bin=$1
source tests/support/stages.sh

printf '\033[1m\033[32m$\033[0m a  <b> & \342\200\246\033[31mred\033[39m end   \n\n   in\n\n' >"$work/screen"
awk -v columns=20 -v title='<t>' -f tools/run_svg.awk "$work/screen" >"$work/run.svg"
grep '^<text' "$work/run.svg" >"$work/texts"
cat >"$work/expected" <<'END'
<text x="14.0" y="27" textLength="8.4" class="b c32">$</text>
<text x="22.4" y="27" textLength="92.4"> a  &lt;b&gt; &amp; …</text>
<text x="114.8" y="27" textLength="25.2" class="c31">red</text>
<text x="140.0" y="27" textLength="33.6"> end</text>
<text x="14.0" y="63" textLength="42.0">   in</text>
END
diff "$work/expected" "$work/texts" >"$work/log" || fail "drawn: $(cat "$work/log")"
grep -q 'viewBox="0 0 196 82".* aria-label="&lt;t&gt;"' "$work/run.svg" || fail "the frame: $(head -n 1 "$work/run.svg")"
note "colours, signs of XML, spaces, other characters"

grep -q '](docs/run.svg)' README.md || fail "README.md does not show docs/run.svg"
(($(stat -c %s docs/run.svg) <= 60 * 1024)) || fail "docs/run.svg is larger than 60 KiB"
for command in new sft generate; do
  grep -q ">drover $command \|> drover $command " docs/run.svg || fail "docs/run.svg shows no drover $command"
done
grep -qE 'updates in [0-9]+' docs/run.svg || fail "docs/run.svg shows no run that ended"
echo "picture: as it should be"
