"""The sample application of `limelight demo`: a support agent over a real local model."""
