"""castbench: a workload profile goes in, measured latency, memory and money per hour come out.

The flow is one way, through immutable values: workload.yaml -> WorkloadProfile -> Plan -> rounds in run.jsonl
-> RunRecord -> Projection -> Report. Importing this package imports nothing heavy.
"""

__version__ = "0.1.0"
