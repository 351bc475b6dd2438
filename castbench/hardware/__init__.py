"""What the machine is: its CPU, its GPUs, what is known of them, and the rates of a fake one."""
