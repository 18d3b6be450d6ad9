"""The opponents of the speed benchmark, fixed before our own agent was timed: see benchmarks/README.md.

(a) stock sb3-contrib RecurrentPPO, (b) the same with one LSTM call a sequence, (c) a hand-written PPO-LSTM loop on a
vector environment, (d) that loop with a feed-forward net, (e) the environment alone. They change only to get faster.
"""
