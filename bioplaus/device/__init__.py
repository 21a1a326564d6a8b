"""Programs that run entirely on a GPU: phases in one kernel, and recorded updates."""
