"""`python -m collector.receivers.decoder`: the decoder's own process. The service starts it."""

from collector.receivers.decoder.process import main

main()
